"""Stable ranks of changes: a matrix of two checkpoints is read again, block by block, as often as it takes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from circuitkit.sfn.differences.passing_by import layout
from circuitkit.sfn.differences.ranks import largest_squared
from circuitkit.sfn.streams.blocks import BLOCK
from circuitkit.sfn.streams.checkpoint import Checkpoint
from circuitkit.sfn.streams.parts import Part

HELD = 1 << 24
"""A change of up to so many numbers is kept in memory (64 MiB of float32), and its files are read once."""
PIECE = 1 << 18
"""Numbers of a change at a time: so few stay in a processor's cache from their reading to their products."""


def changes_rank(a: Checkpoint, b: Checkpoint, parts: tuple[Part, Part], norm: float) -> float:
    """The stable rank of a change whose Frobenius norm is known; NaN of a vector, or where nothing changed."""
    if len(parts[0].shape) != 2 or not norm > 0:
        return float("nan")
    # Entries about 1 in size keep their squares within float32.
    scale = norm / parts[0].numel ** 0.5
    shape = parts[0].shape

    def blocks() -> Iterator[Float[Tensor, "row column"]]:
        return (block.div_(scale) for block in _changes(a, b, parts))

    if parts[0].numel > HELD:
        return float(parts[0].numel / largest_squared(blocks, shape[1]))
    # Blocks' vectors are as long as the smaller side.
    turned = shape[0] < shape[1]
    held = torch.empty(shape[::-1] if turned else shape, dtype=_wide(a, b, parts))
    first = 0
    for block in blocks():
        (held.T if turned else held)[first : first + len(block)] = block
        first += len(block)
    return float(parts[0].numel / largest_squared(lambda: iter([held]), held.shape[1]))


def _wide(a: Checkpoint, b: Checkpoint, parts: tuple[Part, Part]) -> torch.dtype:
    stored = {each.tensors[part.tensor].dtype for each, part in zip((a, b), parts, strict=True)}
    return torch.float64 if torch.float64 in stored else torch.float32


def _changes(a: Checkpoint, b: Checkpoint, parts: tuple[Part, Part]) -> Iterator[Float[Tensor, "row column"]]:
    """The change in blocks of rows, in float32, or float64 where either is stored so; each holds until the next."""
    stored = [each.tensors[part.tensor] for each, part in zip((a, b), parts, strict=True)]
    wide = _wide(a, b, parts)
    if layout(parts[0]) != layout(parts[1]):
        old, new = (part.take(each.read(part.tensor)) for each, part in zip((a, b), parts, strict=True))
        yield from _pieces(old, new, wide)
        return
    rows = max(1, BLOCK // max(1, *(each.row_nbytes for each in stored)))
    sides = [each.blocks(kept.name, rows * max(1, kept.row_nbytes)) for each, kept in zip((a, b), stored, strict=True)]
    for (at, old), (_, new) in zip(*sides, strict=True):
        if (inside := parts[0].within(at)) is not None:
            yield from _pieces(inside[0].take(old), inside[0].take(new), wide)


def _pieces(old: Tensor, new: Tensor, wide: torch.dtype) -> Iterator[Float[Tensor, "row column"]]:
    """The difference of two blocks, a few rows at a time in the same memory, as new memory costs more than the rest."""
    rows, columns = old.shape
    step = min(rows, max(1, PIECE // max(1, columns)))
    one, other = (torch.empty(step, columns, dtype=wide) for _ in range(2))
    for start in range(0, rows, step):
        at = slice(start, min(start + step, rows))
        count = at.stop - start
        yield other[:count].copy_(new[at]).sub_(one[:count].copy_(old[at]))
