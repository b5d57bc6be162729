"""How large an effect is beside its spread, and how much two findings have in common."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable

import numpy as np
from jaxtyping import Float

from circuitkit.statistics.cells import Array, Floats, fill, real_cells


def effect_size(per_example: Float[Array, "*cells example"]) -> Floats:
    """Hedges' g of each cell: the mean over examples in standard deviations, corrected for few examples.

    Gives `[*cells]`. Where examples don't differ it is infinite with the mean's sign, or NaN if all are 0.

    Raises ValueError with fewer than three examples. Source: Hedges 1981, J. Educ. Stat. 6, equation 6e.

    >>> round(float(effect_size(np.array([1.0, 2.0, 3.0]))), 3)  # 2 standard deviations times 0.564
    1.128
    """
    cells, shape, real = real_cells(per_example)
    freedom = cells.shape[1] - 1
    if freedom < 2:
        raise ValueError(f"an effect size needs at least three examples; got {cells.shape[1]}")
    correction = math.exp(math.lgamma(freedom / 2) - math.lgamma((freedom - 1) / 2)) / math.sqrt(freedom / 2)
    alike = (cells == cells[:, :1]).all(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        standardised = cells.mean(1) / np.where(alike, 0.0, cells.std(1, ddof=1))
    return fill(np.where(alike, standardised, standardised * correction), shape, real)


def jaccard(a: Collection[Hashable], b: Collection[Hashable]) -> float:
    """The share of what two sets have in common: their intersection's size over their union's.

    Raises ValueError where both are empty.

    >>> jaccard([(0, 1), (2, 3)], [(2, 3), (4, 5)])
    0.3333333333333333
    """
    union = set(a) | set(b)
    if not union:
        raise ValueError("both sets are empty, so their overlap is undefined")
    return len(set(a) & set(b)) / len(union)
