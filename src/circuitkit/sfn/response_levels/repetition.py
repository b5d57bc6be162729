"""How much of a response says again what it has said."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_RUN = 5
"""Tokens in a row that count as said before; fewer come again in any text."""


def said_before(ids: Sequence[int]) -> NDArray[np.bool_]:
    """Which tokens say again what stands before: in a row of five that has stood, or in a shorter loop of four rounds.

    >>> said_before([1, 2, 1, 2, 1, 2, 1, 2, 7]).tolist()
    [False, False, True, True, True, True, True, True, False]
    """
    again = np.zeros(len(ids), dtype=bool)
    seen: set[tuple[int, ...]] = set()
    for at in range(len(ids) - _RUN + 1):
        run = tuple(ids[at : at + _RUN])
        if run in seen:
            again[at : at + _RUN] = True
        seen.add(run)
    array = np.asarray(ids)
    for period in range(1, _RUN):
        same = (
            np.concatenate([np.zeros(period, dtype=bool), array[period:] == array[:-period]])
            if period < len(ids)
            else ()
        )
        again |= _long_runs(np.asarray(same, dtype=bool), 3 * period, len(ids))
    return again


def _long_runs(same: NDArray[np.bool_], least: int, n: int) -> NDArray[np.bool_]:
    """The runs of True that are long enough."""
    kept = np.zeros(n, dtype=bool)
    if not same.any():
        return kept
    edges = np.flatnonzero(np.diff(np.concatenate([[0], same.astype(int), [0]])))
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        kept[start:stop] = stop - start >= least
    return kept
