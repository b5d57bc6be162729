"""One pass over checkpoints, side by side: every row of every chosen tensor is read once, and looked at while there."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from circuitkit.sfn.differences.looking import Look, Seen, looked_at, nothing
from circuitkit.sfn.progress import bytes_bar
from circuitkit.sfn.streams.blocks import BLOCK, check_finite
from circuitkit.sfn.streams.checkpoint import Checkpoint
from circuitkit.sfn.streams.parts import Part

Pair = tuple[int, int]
"""Which two of the checkpoints are held against each other: from the first to the second."""


@dataclass(frozen=True, eq=False)
class Abreast:
    """One part of a weight in each of the checkpoints, in their order, and what is looked for in which pairs of them.

    Attributes:
        roles: that it has in all of them.
        parts: of each checkpoint.
        looks: by pair.
    """

    roles: tuple[str, ...]
    parts: tuple[Part, ...]
    looks: Mapping[Pair, Look]

    @property
    def tensors(self) -> tuple[str, ...]:
        """The stored tensors that it lies in."""
        return tuple(part.tensor for part in self.parts)

    @property
    def laid_alike(self) -> bool:
        """Whether it lies at the same rows and columns everywhere, so that one block of each has it."""
        return len({layout(part) for part in self.parts}) == 1


def layout(part: Part) -> tuple[object, ...]:
    """At which rows and columns of its tensor a part lies."""
    runs = ((each.start, each.stop, each.step or 1) for each in (*part.rows, *(part.columns or ())))
    return (*runs, part.columns is None, part.vector, part.of[-1:] if len(part.of) > 1 else None, math.prod(part.of))


Found = dict[Pair, Seen]
_Task = Future[dict[int, Found]]


def passed_by(
    checkpoints: Sequence[Checkpoint], weights: Sequence[Abreast], *, what: str, progress: bool
) -> Iterator[tuple[int, Found]]:
    """Look at all weights in one pass; gives the number of each weight that is through, with what was seen of it.

    Blocks are looked at in several threads, and what is found is added in the order of the file, so that the sums are
    the same to the last bit each time.

    Raises:
        CheckpointError: a weight is NaN or infinite; its tensor and its place are named.
    """
    groups: dict[tuple[str, ...], dict[int, Abreast]] = {}
    for index, weight in enumerate(weights):
        groups.setdefault(weight.tensors, {})[index] = weight
    total = sum(each.tensors[name].nbytes for names in groups for each, name in zip(checkpoints, names, strict=True))
    pending: deque[tuple[int, _Task]] = deque()
    with bytes_bar(total, what, progress) as bar, ThreadPoolExecutor(_workers()) as pool:
        try:
            for tensors, chosen in groups.items():
                found = {i: {pair: nothing(look) for pair, look in each.looks.items()} for i, each in chosen.items()}
                for at, blocks in _side_by_side(checkpoints, tensors, chosen):
                    task = pool.submit(_look, checkpoints, tensors, chosen, at, blocks)
                    pending.append((sum(block.nbytes for block in blocks), task))
                    if len(pending) > _workers() + 1:
                        bar.update(_taken_in(found, *pending.popleft()))
                while pending:
                    bar.update(_taken_in(found, *pending.popleft()))
                yield from found.items()
        finally:
            for _, task in pending:
                task.cancel()


def _workers() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(4, cores)


def _taken_in(found: Mapping[int, Found], nbytes: int, task: _Task) -> int:
    """Add up what a task found, and give how many bytes it read."""
    for index, seen in task.result().items():
        for pair, more in seen.items():
            found[index][pair].add(more)
    return nbytes


def _side_by_side(
    checkpoints: Sequence[Checkpoint], tensors: tuple[str, ...], chosen: Mapping[int, Abreast]
) -> Iterator[tuple[slice, list[Tensor]]]:
    """The same rows of a tensor of each checkpoint; of what is not laid alike, all of them at once."""
    stored = [checkpoint.tensors[tensor] for checkpoint, tensor in zip(checkpoints, tensors, strict=True)]
    if not all(weight.laid_alike for weight in chosen.values()):
        # Of these, only what is taken is read.
        yield slice(0, stored[0].rows), [each.read(tensor) for each, tensor in zip(checkpoints, tensors, strict=True)]
        return
    rows = max(1, BLOCK // max(1, *(each.row_nbytes for each in stored)))
    sides = [
        checkpoint.blocks(each.name, rows * max(1, each.row_nbytes))
        for checkpoint, each in zip(checkpoints, stored, strict=True)
    ]
    for blocks in zip(*sides, strict=True):
        yield blocks[0][0], [block for _, block in blocks]


def _look(
    checkpoints: Sequence[Checkpoint],
    tensors: tuple[str, ...],
    chosen: Mapping[int, Abreast],
    at: slice,
    blocks: Sequence[Tensor],
) -> dict[int, Found]:
    """Look at everything in some rows of one tensor of each checkpoint."""
    found = {}
    for index, weight in chosen.items():
        if (inside := weight.parts[0].within(at)) is None:
            continue
        first = inside[1].start
        alike = all(each.laid_alike for each in chosen.values())
        pieces = [_piece(part, at, block, alike) for part, block in zip(weight.parts, blocks, strict=True)]
        seen = {(a, b): looked_at(look, pieces[a], pieces[b], first) for (a, b), look in weight.looks.items()}
        if not all(np.isfinite(each.sums).all() for each in seen.values()):
            for checkpoint, tensor, block in zip(checkpoints, tensors, blocks, strict=True):
                check_finite(f"{tensor} of {checkpoint.name}", block, at.start)
        found[index] = seen
    return found


def _piece(part: Part, at: slice, block: Tensor, laid_alike: bool) -> Tensor:
    """What of a part is in a block; a block that is all of the tensor holds all of the part."""
    if not laid_alike:
        return part.take(block)
    inside = part.within(at)
    assert inside is not None
    return inside[0].take(block)
