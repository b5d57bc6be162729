"""Whether the relative changes of a module have two modes, and what their modes come from.

The paper saw two humps in the histograms of o_proj and tested none. Dividing by a weight can make humps by itself, so
a sample of a module's weights and changes is measured beside controls that keep all but one thing the same:

- changes shuffled among the weights: what the weights' sizes and the changes' sizes make by themselves. Changes
  that are all about as large, as a few steps of Adam are, leave a hole at zero under any weights;
- changes drawn from a Gaussian, of the same size once rounded to the number format: what rounding makes;
- weights under a tenth of the module's root mean square left out: what small weights make;
- changes over the module's root mean square instead of each weight: whether the changes have modes of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from circuitkit.sfn.differences.dips import chance_of_dip, dip
from circuitkit.sfn.differences.precision import Precision, rounded, unit
from circuitkit.sfn.differences.relative_change import EDGES, Formula, hollow, relative, within

Entries = Float[np.ndarray, " entry"]

LEAST = 50
"""Ratios of fewer entries tell nothing about modes."""
SUSPECT = 0.05
"""Where an even spread has such a dip more often, there is nothing to explain."""
SHUFFLES, ROUNDINGS = 10, 10
_SMALL = 0.1
"""Under this share of the root mean square a weight is small."""
NEAR_BINS = 40
_RANGE = 0.8
"""The hollow at zero is looked for in so many bins over the middle share of the entries, by magnitude."""


@dataclass(frozen=True, eq=False)
class Shapes:
    """Histograms of a sample beside those of its controls, as shares of the sample.

    Attributes:
        shuffled, rounding: the controls, in the 200 bins over [−1, 1] of `relative_change`.
        reach: how far the module's own scale goes to either side of zero; 0 where most of it did not change.
        near, near_shuffled, near_rounding: the sample and its controls in 40 bins over [−reach, reach].
    """

    shuffled: Float[np.ndarray, " bin"]
    rounding: Float[np.ndarray, " bin"]
    reach: float
    near: Float[np.ndarray, " near"]
    near_shuffled: Float[np.ndarray, " near"]
    near_rounding: Float[np.ndarray, " near"]


@dataclass(frozen=True)
class Bimodality:
    """What a sample of a module says about modes of its relative changes; NaN where something is not to be had.

    Of shuffled and rounded changes there are dips only where `p` is under 0.05, so that there is something to explain.

    Attributes:
        entries: ratios in the sample that lie in the histogram's range.
        dip, p: Hartigan's dip of the ratios, and how often an even spread has one as large.
        coefficient: of bimodality (SAS), over 5/9 where a distribution is flat or has modes at its ends.
        depth: of the hollow at zero, at the module's own scale (`relative_change.hollow`).
        dip_shuffled, p_shuffled: the mean dip of changes shuffled among the weights, and its chance.
        dip_rounding, p_rounding: those of Gaussian changes that are rounded.
        dip_large, p_large: those without small weights.
        dip_change, p_change: those of the changes themselves.
        small_share: of the entries that make the two humps, how many have one of the smallest quarter of weights: a
            quarter, if those do no more than others.
        variation: the standard deviation over the mean of the changes' magnitudes, zeros left out: 0 where all are
            alike, 0.76 of a Gaussian.
        kurtosis: of the changes, zeros left out: 1 where all are ± alike, 3 of a Gaussian.
        within_unit: of the changes that are not zero, how many are one step of the number format at A, or less.
        precision: the coarsest number format that holds A or B, whichever is coarser.
    """

    entries: int
    dip: float
    p: float
    coefficient: float
    depth: float
    dip_shuffled: float
    p_shuffled: float
    dip_rounding: float
    p_rounding: float
    dip_large: float
    p_large: float
    dip_change: float
    p_change: float
    small_share: float
    variation: float
    kurtosis: float
    within_unit: float
    precision: Precision


def bimodality(
    a: Entries, change: Entries, formula: Formula, precision: Precision, seed: int = 0
) -> tuple[Bimodality, Shapes]:
    """Measure a sample of weights and changes beside its controls, which are seeded.

    >>> rng = np.random.default_rng(0)
    >>> a = rng.normal(size=2000)
    >>> change = a * rng.choice([-0.3, 0.3], 2000) * rng.normal(1, 0.1, 2000)
    >>> found, _ = bimodality(a, change, "paper", "float32")
    >>> found.p < 0.001 < found.p_shuffled, found.depth > 0.9
    (True, True)
    """
    rng = np.random.default_rng(seed)
    ratios = relative(a, change, formula)
    inside = within(ratios, formula)
    kept = ratios[inside]
    size, p = _dip(kept)
    # Controls explain what is there to explain, and cost the most.
    suspect = p < SUSPECT
    shuffled = [relative(a, rng.permutation(change), formula) for _ in range(SHUFFLES)]
    spread = _spread_before_rounding(a, change, precision, rng)
    rounding = [
        relative(a, rounded(a + rng.normal(0.0, spread, len(a)), precision) - a, formula) for _ in range(ROUNDINGS)
    ]
    large = np.abs(a) >= _SMALL * np.sqrt(np.mean(a**2))
    moved = change[change != 0]
    found = Bimodality(
        len(kept),
        size,
        p,
        _coefficient(kept),
        _depth(kept),
        *_mean_dip([each[within(each, formula)] for each in shuffled if suspect]),
        *_mean_dip([each[within(each, formula)] for each in rounding if suspect]),
        *_dip(ratios[inside & large]),
        *_dip(change),
        _small_share(a[inside], kept),
        float(np.abs(moved).std() / np.abs(moved).mean()) if len(moved) else np.nan,
        _kurtosis(moved),
        float(np.mean(np.abs(moved) <= 1.000001 * unit(a[change != 0], precision))) if len(moved) else np.nan,
        precision,
    )
    return found, _shapes(kept, np.concatenate(shuffled), np.concatenate(rounding))


def _shapes(kept: Entries, shuffled: Entries, rounding: Entries) -> Shapes:
    reach = _reach(kept)
    near = np.linspace(-reach, reach, NEAR_BINS + 1) if reach > 0 else EDGES[:: len(EDGES) // NEAR_BINS]
    drawn = [_shares(values, edges) for edges in (EDGES, near) for values in (shuffled, rounding)]
    return Shapes(drawn[0], drawn[1], reach, _shares(kept, near), drawn[2], drawn[3])


def _shares(values: Entries, edges: Float[np.ndarray, " edge"]) -> Float[np.ndarray, " bin"]:
    counts, _ = np.histogram(values[np.isfinite(values)], edges)
    return np.asarray(counts / max(1, len(values)))


def _spread_before_rounding(a: Entries, change: Entries, precision: Precision, rng: np.random.Generator) -> float:
    """How large Gaussian changes are that, rounded with their weights, become as large as the real ones."""
    drawn = rng.standard_normal(len(a))
    wanted = float(np.sqrt(np.mean(change**2)))
    # Changes under half a step vanish and others grow to a whole one, so that the size is searched for.
    low, high = wanted / 64, wanted * 2
    for _ in range(12):
        middle = float(np.sqrt(low * high))
        found = rounded(a + middle * drawn, precision) - a
        low, high = (middle, high) if np.sqrt(np.mean(found**2)) < wanted else (low, middle)
    return high


def _dip(values: Entries) -> tuple[float, float]:
    if len(values) < LEAST:
        return np.nan, np.nan
    size = dip(values)
    return size, chance_of_dip(size, len(values))


def _mean_dip(samples: list[Entries]) -> tuple[float, float]:
    """The mean dip of samples, and the chance of one as large in a sample as large."""
    usable = [values for values in samples if len(values) >= LEAST]
    if not usable:
        return np.nan, np.nan
    size = float(np.mean([dip(values) for values in usable]))
    return size, chance_of_dip(size, int(np.mean([len(values) for values in usable])))


def _coefficient(values: Entries) -> float:
    n = len(values)
    if n < LEAST or values.std() == 0:
        return np.nan
    centred = (values - values.mean()) / values.std()
    skewness, excess = float(np.mean(centred**3)), float(np.mean(centred**4)) - 3
    return (skewness**2 + 1) / (excess + 3 * (n - 1) ** 2 / ((n - 2) * (n - 3)))


def _kurtosis(values: Entries) -> float:
    spread = np.mean((values - values.mean()) ** 2) if len(values) else 0.0
    return float(np.mean((values - values.mean()) ** 4) / spread**2) if spread > 0 else np.nan


def _reach(values: Entries) -> float:
    return float(np.quantile(np.abs(values), _RANGE)) if len(values) else 0.0


def _heights(values: Entries) -> tuple[Float[np.ndarray, " near"], float]:
    """A smooth histogram about zero of most entries, and how far it reaches to either side."""
    reach = _reach(values)
    if reach == 0:
        return np.ones(NEAR_BINS), 0.0
    counts, _ = np.histogram(values, NEAR_BINS, (-reach, reach))
    return np.convolve(counts, np.full(3, 1 / 3), "same"), reach


def _depth(values: Entries) -> float:
    return hollow(_heights(values)[0]) if len(values) >= LEAST else np.nan


def _small_share(a: Entries, ratios: Entries) -> float:
    """How many of the entries in the highest bin on either side have one of the smallest quarter of weights."""
    if len(ratios) < LEAST:
        return np.nan
    heights, reach = _heights(ratios)
    if reach == 0:
        return np.nan
    middle, width = NEAR_BINS // 2, 2 * reach / NEAR_BINS
    peaks = np.argmax(heights[:middle]), middle + np.argmax(heights[middle:])
    near = np.min([np.abs(ratios - (-reach + (peak + 0.5) * width)) for peak in peaks], axis=0) <= width
    small = np.abs(a) <= np.quantile(np.abs(a), 0.25)
    return float(small[near].mean()) if near.any() else np.nan
