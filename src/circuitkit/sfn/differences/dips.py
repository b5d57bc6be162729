"""How far a sample is from having one mode: Hartigan's dip, and how large it is of samples that have one.

Source: Hartigan & Hartigan 1985, Ann. Stat. 13; the modal interval is narrowed as in Hartigan 1985, Appl. Stat. 34.
"""

from __future__ import annotations

import numpy as np
import scipy
from jaxtyping import Float, Int

Sample = Float[np.ndarray, " entry"]


def dip(values: Sample) -> float:
    """The greatest distance between a sample's distribution and the nearest one of a single mode.

    From 0 to 1/4. Ties count as they lie, and an atom at the mode costs nothing. Stretching or shifting the values
    changes nothing. Raises ValueError for no values, or for NaN or infinity among them.

    >>> one, two = np.linspace(-1, 1, 101), np.repeat([0.0, 1.0], 50)
    >>> round(dip(one), 3), round(dip(two), 3)
    (0.005, 0.25)
    """
    if not len(values) or not np.isfinite(values).all():
        raise ValueError(f"a dip is of finite numbers; got {len(values)} values, none or with NaN or infinity")
    places, counts = np.unique(values.astype(np.float64), return_counts=True)
    below, upto = (np.cumsum(counts) - counts) / len(values), np.cumsum(counts) / len(values)
    low, high, twice = 0, len(places) - 1, 0.0
    while high > low:
        inside = slice(low, high + 1)
        convex, bends = _minorant(places[inside], below[inside])
        mirrored, turns = _minorant(-places[inside][::-1], -upto[inside][::-1])
        concave, turns = -mirrored[::-1], (high - low - turns)[::-1]
        gaps = concave - convex
        widest = int(max((*bends, *turns), key=gaps.__getitem__))
        if gaps[widest] <= twice:
            break
        first, last = _narrowed(widest, bends, turns)
        # The ends of what is left are charged when it is narrowed again: a jump at the mode itself is no departure.
        left, right = upto[inside] - convex, concave - below[inside]
        twice = max(twice, left[:first].max(initial=0.0), right[last + 1 :].max(initial=0.0))
        low, high = low + first, low + last
    return float(twice) / 2


def _minorant(
    places: Float[np.ndarray, " point"], heights: Float[np.ndarray, " point"]
) -> tuple[Float[np.ndarray, " point"], Int[np.ndarray, " bend"]]:
    """The greatest convex function under points, at their places, and the points that it touches."""
    widths = np.diff(places)
    # Its slopes are the increasing ones that are nearest to those from point to point.
    fitted = scipy.optimize.isotonic_regression(np.diff(heights) / widths, weights=widths)
    return heights[0] + np.concatenate([[0.0], np.cumsum(fitted.x * widths)]), fitted.blocks


def _narrowed(widest: int, bends: Int[np.ndarray, " bend"], turns: Int[np.ndarray, " turn"]) -> tuple[int, int]:
    """Where the mode can still be, once the gap is widest at a point."""
    if widest in bends:
        return widest, int(turns[np.searchsorted(turns, widest)])
    return int(bends[np.searchsorted(bends, widest, side="right") - 1]), widest


# Of √n times the dip of n even numbers, from 60,000 samples of 8,192: how large it is with each chance. It is slightly
# smaller of fewer numbers, whose chances are therefore told a little too high.
_CHANCES = (
    *(1.0, 0.99, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1),
    *(0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005, 0.0002, 0.0001),
)
_SIZES = (
    *(0.0, 0.2458, 0.274, 0.2918, 0.317, 0.3373, 0.3565, 0.3758, 0.3972, 0.4213, 0.4521, 0.4988),
    *(0.5426, 0.5918, 0.6258, 0.6578, 0.7022, 0.7327, 0.7633, 0.7945, 0.8106),
)


def chance_of_dip(size: float, n: int) -> float:
    """How often n numbers that are spread evenly have a dip of this size or more; never told as under 1e-4.

    The even spread is the one of a single mode whose samples dip most, as n grows: of no other is a dip of this size
    more likely (Hartigan & Hartigan 1985), and of a Gaussian it is far less so.

    >>> round(chance_of_dip(0.5426 / 64, 64**2), 6), round(chance_of_dip(0.1, 64**2), 6)
    (0.05, 0.0001)
    """
    return float(np.exp(np.interp(np.sqrt(n) * size, _SIZES, np.log(_CHANCES))))
