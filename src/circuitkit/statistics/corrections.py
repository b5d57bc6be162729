"""P-values corrected for how many there are; a NaN, of a test that could not be made, stays so and does not count."""

from __future__ import annotations

import numpy as np
import scipy
from jaxtyping import Float
from numpy.typing import ArrayLike

from circuitkit.statistics.cells import Array, Floats, as_array


def holm(p: ArrayLike | Array) -> Floats:
    """Adjust p-values so that any false discovery among cells under q has a chance of at most q, however they depend.

    Takes p-values of any shape (a column of a table too) and gives an array of it. Raises ValueError for what is no
    p-value. Source: Holm 1979, Scand. J. Stat. 6.

    >>> holm(np.array([0.01, 0.04, 0.03, np.nan])).round(3).tolist()
    [0.03, 0.06, 0.06, nan]
    """
    values = as_array(p)
    real = ~np.isnan(values)
    if ((values[real] < 0) | (values[real] > 1)).any():
        raise ValueError("a p-value lies between 0 and 1")
    adjusted = np.full(values.shape, np.nan)
    if real.any():
        adjusted[real] = _stepped_down(values[real])
    return adjusted


def _stepped_down(p: Floats) -> Floats:
    # statsmodels does the same, and collects garbage every time, which takes a second where much is loaded.
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return adjusted


def benjamini_hochberg(p: Float[Array, "*cells"]) -> Floats:
    """Adjust p-values so that cells under q hold at most a share q of false discoveries, on average.

    Gives an array of the same shape. Source: Benjamini & Hochberg 1995, J. R. Stat. Soc. B 57.

    >>> benjamini_hochberg(np.array([0.01, 0.04, 0.03, np.nan])).round(3).tolist()
    [0.03, 0.04, 0.04, nan]
    """
    values = as_array(p)
    real = ~np.isnan(values)
    adjusted = np.full(values.shape, np.nan)
    if real.any():
        adjusted[real] = scipy.stats.false_discovery_control(values[real], method="bh")
    return adjusted
