"""Each weight's change over its old value, as a histogram, by the paper's formula or that of its code.

Source: Shao & Wu 2025, arXiv 2505.20993, and its released code, which differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Num

Formula = Literal["paper", "code"]
FORMULAS: tuple[Formula, ...] = ("paper", "code")

BINS = 200
EDGES = np.linspace(-1.0, 1.0, BINS + 1)
BEYOND, ZEROS = BINS, BINS + 1
"""Where `counted` puts what lies in no bin."""
_CODES_REACH, _CODES_FLOOR = 0.99, 1e-8


def relative(
    a: Float[np.ndarray, "*entry"], change: Float[np.ndarray, "*entry"], formula: Formula
) -> Float[np.ndarray, "*entry"]:
    """(B − A) / A as in the paper, or (B − A) / (|A| + 1e-8) as in its code.

    The paper's is above zero where a weight grew in magnitude, and infinite or NaN where it was 0; the code's has the
    sign of the change.

    >>> relative(np.array([-2.0, 0.0]), np.array([1.0, 1.0]), "paper").tolist()
    [-0.5, inf]
    """
    if formula == "code":
        return np.asarray(change / (np.abs(a) + _CODES_FLOOR))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(change / a)


def within(ratios: Float[np.ndarray, " entry"], formula: Formula) -> Bool[np.ndarray, " entry"]:
    """Which ratios go into the histogram: up to 1 in magnitude by the paper's formula, under 0.99 by the code's."""
    size = np.abs(ratios)
    return np.asarray(size <= 1.0 if formula == "paper" else size < _CODES_REACH)


def counted(
    a: Float[np.ndarray, " entry"], change: Float[np.ndarray, " entry"], formula: Formula
) -> Int[np.ndarray, " place"]:
    """How many entries lie in each bin, beyond the last ones (`BEYOND`), and nowhere since A was 0 (`ZEROS`)."""
    ratios = relative(a, change, formula)
    inside = within(ratios, formula)
    # Of a number just under 1 the bin may round up to one that is not there.
    bins = np.minimum(((ratios[inside] + 1.0) * (BINS / 2)).astype(np.int64), BINS - 1)
    places = np.bincount(bins, minlength=BINS + 2)
    places[ZEROS] = np.count_nonzero(a[~inside] == 0)
    places[BEYOND] = len(a) - len(bins) - places[ZEROS]
    return places


@dataclass(frozen=True, eq=False)
class Histogram:
    """How many weights of a module changed by which share of themselves.

    Attributes:
        counts: in 200 equal bins over [−1, 1].
        formula: what the share is; see `relative`.
        zeros: weights that were 0 in A and lie in no bin; by the code's formula those that stayed 0 lie in one.
        beyond: weights that were not 0 and changed by more than all of themselves (by the code's formula, 0.99 of
            themselves or more), and lie in no bin either.

    >>> found = Histogram.of(np.array([1.0, 1.0, 2.0, 0.0]), np.array([0.5, 3.0, 0.0, 1.0]), "paper")
    >>> int(found.counts.sum()), found.zeros, found.beyond
    (2, 1, 1)
    """

    counts: Int[np.ndarray, " bin"]
    formula: Formula
    zeros: int
    beyond: int

    @classmethod
    def of(cls, a: Float[np.ndarray, " entry"], change: Float[np.ndarray, " entry"], formula: Formula) -> Histogram:
        """The histogram of weights and their changes."""
        return cls.from_places(counted(a, change, formula), formula)

    @classmethod
    def from_places(cls, places: Int[np.ndarray, " place"], formula: Formula) -> Histogram:
        """The histogram of what `counted` gave."""
        return cls(places[:BINS], formula, int(places[ZEROS]), int(places[BEYOND]))

    @property
    def edges(self) -> Float[np.ndarray, " edge"]:
        """Where the bins begin, and where the last one ends."""
        return EDGES

    @property
    def heights(self) -> Float[np.ndarray, " bin"]:
        """The counts over the largest, as the paper draws them."""
        return np.asarray(self.counts / max(1, int(self.counts.max())))

    @property
    def depth(self) -> float:
        """How deep the hollow at zero is in these bins; see `hollow`."""
        return hollow(self.counts)


def hollow(counts: Num[np.ndarray, " bin"]) -> float:
    """How deep a histogram about zero dips there: 1 minus the height at zero over the lower of the peaks on its sides.

    0 where zero is the top, 1 where nothing lies at zero. Zero is the middle of an even number of bins.

    >>> hollow(np.array([1, 8, 2, 2, 4, 1])), hollow(np.array([1, 2, 2, 1]))
    (0.5, 0.0)
    """
    middle = len(counts) // 2
    peaks = min(counts[:middle].max(), counts[middle:].max())
    at_zero = counts[middle - 1 : middle + 1].mean()
    return float(max(0.0, 1 - at_zero / peaks)) if peaks > 0 else 0.0
