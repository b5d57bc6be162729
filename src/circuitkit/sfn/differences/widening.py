"""Pieces of two weights in float64, few enough elements at a time for a core's cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

CHUNK = 1 << 17
"""Elements at a time: twice as many in float64 stay in a processor's cache, and the calls for them cost little."""

Matrix = Float[np.ndarray, "row column"]


@dataclass(frozen=True)
class Wide:
    """Some rows of A, and their change to B, exact, in float64.

    Attributes:
        first: which row of the whole the first one is.
        a: the rows.
        change: b − a.
        b: gives the rows of B, which few ask for.
    """

    first: int
    a: Matrix
    change: Matrix
    b: Callable[[], Matrix]


def widened(a: Float[Tensor, "row column"], b: Float[Tensor, "row column"], first: int) -> Iterator[Wide]:
    """Widen rows of two weights, a few at a time; what is given holds until the next is asked for."""
    rows, columns = a.shape
    step = max(1, CHUNK // max(1, columns))
    most = min(step, rows)
    mine, moved, theirs = (_Buffer.of(most, columns) for _ in range(3))
    for start in range(0, rows, step):
        if (count := min(step, rows - start)) < most:
            mine, moved, theirs = (buffer.first(count) for buffer in (mine, moved, theirs))
        one, other = a[start : start + count], b[start : start + count]
        wide, change = mine.take(one), moved.take(other)
        np.subtract(change, wide, out=change)
        yield Wide(first + start, wide, change, partial(theirs.take, other))


@dataclass(frozen=True)
class _Buffer:
    """Room for some rows, as PyTorch and as NumPy see it, and for what they are on the way."""

    room: Tensor
    seen: Matrix
    single: Tensor

    @classmethod
    def of(cls, rows: int, columns: int) -> _Buffer:
        room = torch.empty(rows, columns, dtype=torch.float64)
        return cls(room, room.numpy(), torch.empty(rows, columns, dtype=torch.float32))

    def first(self, rows: int) -> _Buffer:
        return _Buffer(self.room[:rows], self.seen[:rows], self.single[:rows])

    def take(self, values: Tensor) -> Matrix:
        # From float16 the way by float32 is twice as fast as the direct one, and as exact.
        self.room.copy_(self.single.copy_(values) if values.dtype is torch.float16 else values)
        return self.seen
