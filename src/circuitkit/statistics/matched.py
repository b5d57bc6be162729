"""A cell beside those that match it in all but one axis: a head beside the other heads of its layer."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from circuitkit.statistics.cells import Array, Floats, as_array, checked_level


class Others(NamedTuple):
    """What the cells beside each cell do: their mean, the ends of their middle part, p, and how many they are."""

    mean: Floats
    low: Floats
    high: Floats
    p: Floats
    n_others: Int[np.ndarray, "*cells"]


def against_others(effects: Float[Array, "*cells"], axis: int = -1, *, level: float = 0.95) -> Others:
    """Place each cell's effect among those of the other cells along an axis, such as the other heads of its layer.

    It is the control of `matched_heads` for sets of one head, all draws of which a sweep over heads has measured
    already. `low` and `high` hold the middle `level` of the others; `p` is the chance that one of them, or the cell
    itself, does at least as much in magnitude, and cannot be under `1 / (1 + n_others)`. Everything has the shape
    `[*cells]`, NaN where the effect is, or where no other cell is beside it.

    Raises ValueError for an axis that there is not.

    >>> others = against_others(np.array([[9.0, 0.0, 0.1, 0.2]]))
    >>> others.p[0].tolist(), others.n_others[0].tolist()
    ([0.25, 1.0, 0.75, 0.5], [3, 3, 3, 3])
    """
    table = as_array(effects)
    if not -table.ndim <= axis < table.ndim:
        raise ValueError(f"effects have {table.ndim} axes, so there is none numbered {axis}")
    lines = np.moveaxis(table, axis, -1)
    n = lines.shape[-1]
    # [*cells, other]: each cell's line without itself.
    beside = lines[..., None, :].repeat(n, axis=-2)
    beside[..., np.arange(n), np.arange(n)] = np.nan
    measured = ~np.isnan(lines)
    count = (~np.isnan(beside)).sum(-1) * measured
    alone = count == 0
    # An entry stands in where there is none, so that no quantile of nothing is taken.
    beside[alone, 0] = 0.0
    tail = (1 - checked_level(level)) / 2
    low, high = np.nanquantile(beside, [tail, 1 - tail], axis=-1)
    as_large = (np.abs(beside) >= np.abs(lines)[..., None] * (1 - 1e-9)).sum(-1)

    def placed(values: Floats) -> Floats:
        return np.asarray(np.moveaxis(np.where(alone, np.nan, values), -1, axis))

    p = (1 + as_large) / (1 + count)
    return Others(placed(np.nanmean(beside, -1)), placed(low), placed(high), placed(p), np.moveaxis(count, -1, axis))
