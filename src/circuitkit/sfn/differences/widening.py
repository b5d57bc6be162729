"""Pieces of two weights in float64, few enough elements at a time for a core's cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

CHUNK = 1 << 17
"""Elements at a time: three times as many in float64 stay in a processor's cache, and the calls for them cost little."""

Matrix = Float[np.ndarray, "row column"]


@dataclass(frozen=True)
class Wide:
    """Some rows of A and B, and their difference, exact, in float64.

    Attributes:
        first: which row of the whole the first one is.
        a, b: the rows.
        change: b − a.
    """

    first: int
    a: Matrix
    b: Matrix
    change: Matrix


def widened(a: Float[Tensor, "row column"], b: Float[Tensor, "row column"], first: int) -> Iterator[Wide]:
    """Widen rows of two weights, a few at a time; what is given holds until the next is asked for."""
    rows, columns = a.shape
    step = max(1, CHUNK // max(1, columns))
    buffers = [torch.empty(min(step, rows), columns, dtype=torch.float64) for _ in range(3)]
    single = torch.empty(min(step, rows), columns, dtype=torch.float32)
    for start in range(0, rows, step):
        count = min(step, rows - start)
        one, other, change = (buffer[:count] for buffer in buffers)
        _widen(a[start : start + count], one, single[:count])
        _widen(b[start : start + count], other, single[:count])
        torch.sub(other, one, out=change)
        yield Wide(first + start, one.numpy(), other.numpy(), change.numpy())


def _widen(values: Tensor, into: Tensor, single: Tensor) -> None:
    # From float16 the way by float32 is twice as fast as the direct one, and as exact.
    into.copy_(single.copy_(values) if values.dtype is torch.float16 else values)
