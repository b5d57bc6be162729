"""Stable ranks of changes: a matrix of two checkpoints is read again, block by block, as often as it takes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from circuitkit.sfn.blocks import BLOCK
from circuitkit.sfn.checkpoint import Checkpoint
from circuitkit.sfn.differences.passing_by import layout
from circuitkit.sfn.differences.ranks import largest_squared
from circuitkit.sfn.parts import Part

HELD = 1 << 24
"""A change of up to so many numbers is kept in memory (64 MiB of float32), and its files are read once."""


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
    held = torch.cat(list(blocks()))
    held = held if shape[0] >= shape[1] else held.T.contiguous()
    return float(parts[0].numel / largest_squared(lambda: iter([held]), held.shape[1]))


def _changes(a: Checkpoint, b: Checkpoint, parts: tuple[Part, Part]) -> Iterator[Float[Tensor, "row column"]]:
    """The change in blocks of rows, in float32, or float64 where either is stored so."""
    stored = [each.tensors[part.tensor] for each, part in zip((a, b), parts, strict=True)]
    wide = torch.float64 if torch.float64 in {each.dtype for each in stored} else torch.float32
    if layout(parts[0]) != layout(parts[1]):
        whole = [part.take(each.read(part.tensor)).to(wide) for each, part in zip((a, b), parts, strict=True)]
        yield whole[1] - whole[0]
        return
    rows = max(1, BLOCK // max(1, *(each.row_nbytes for each in stored)))
    sides = [each.blocks(kept.name, rows * max(1, kept.row_nbytes)) for each, kept in zip((a, b), stored, strict=True)]
    for (at, old), (_, new) in zip(*sides, strict=True):
        if (inside := parts[0].within(at)) is not None:
            yield inside[0].take(new).to(wide) - inside[0].take(old).to(wide)
