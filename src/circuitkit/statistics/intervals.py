"""How far a mean or a proportion may be off."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy
from jaxtyping import Float

from circuitkit.statistics.cells import Array, Floats, Groups, blocks, by_group, checked_level, fill, real_cells


class Interval(NamedTuple):
    """The low and the high end of an interval."""

    low: float
    high: float


class Intervals(NamedTuple):
    """The low and the high ends of every cell's interval, of shape `[*cells]` each."""

    low: Floats
    high: Floats


def wilson(successes: int, trials: int, *, level: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion, such as an accuracy.

    Gives proportions between 0 and 1, exactly 0 or 1 at the end that none or all reach. Raises ValueError unless
    0 <= successes <= trials and trials > 0.
    Source: Wilson 1927, J. Am. Stat. Assoc. 22.

    >>> low, high = wilson(45, 50)
    >>> round(low, 3), round(high, 3)
    (0.786, 0.957)
    """
    from statsmodels.stats.proportion import proportion_confint

    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes in {trials} trials is no proportion")
    low, high = proportion_confint(successes, trials, alpha=1 - checked_level(level), method="wilson")
    # Rounding leaves 1e-17 in the place of 0, which would be shown.
    return Interval(float(low) if successes else 0.0, float(high) if successes < trials else 1.0)


def bootstrap_mean(
    per_example: Float[Array, "*cells example"],
    *,
    seed: int,
    draws: int = 2000,
    level: float = 0.95,
    groups: Groups | None = None,
) -> Intervals:
    """Bias-corrected, accelerated bootstrap interval of each cell's mean over examples.

    Gives low and high ends of shape `[*cells]`, in the values' units. `groups` names each example's cluster
    (a template, a seed): whole clusters are then drawn. All cells share their draws. A cell whose examples
    are all alike has an interval of no width.

    Raises ValueError with fewer than two examples or groups. Source: Efron 1987, J. Am. Stat. Assoc. 82.

    >>> low, high = bootstrap_mean(np.arange(20.0), seed=0)
    >>> bool(low < 9.5 < high)
    True
    """
    cells, shape, real = real_cells(per_example)
    sums, sizes = by_group(cells, groups, "an interval")
    total, count = sums.sum(1), sizes.sum()
    means = total / count
    weights = np.random.default_rng(seed).multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=draws)
    drawn_counts = (weights @ sizes)[:, None]
    left_out = (total[:, None] - sums) / (count - sizes)
    acceleration = jackknife_acceleration(left_out)
    ends = np.empty((2, len(cells)))
    for part in blocks(len(cells), draws):
        ends[:, part] = bca_ends(weights @ sums[part].T / drawn_counts, means[part], acceleration[part], level)
    still = (cells == cells[:, :1]).all(1)
    ends[:, still] = cells[still, 0]
    return Intervals(fill(ends[0], shape, real), fill(ends[1], shape, real))


def jackknife_acceleration(left_out: Float[np.ndarray, "cell group"]) -> Float[np.ndarray, " cell"]:
    """How fast each cell's error goes with its statistic, from the statistic without each group; 0 where all are alike.

    >>> jackknife_acceleration(np.array([[1.0, 1.0, 1.0], [0.0, 1.0, 5.0]])).round(3).tolist()
    [0.0, -0.057]
    """
    spread = left_out.mean(1, keepdims=True) - left_out
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.nan_to_num((spread**3).sum(1) / (6 * (spread**2).sum(1) ** 1.5)))


def bca_ends(
    drawn: Float[np.ndarray, "draw cell"],
    estimates: Float[np.ndarray, " cell"],
    acceleration: Float[np.ndarray, " cell"],
    level: float,
) -> Float[np.ndarray, "2 cell"]:
    """The ends of bias-corrected, accelerated intervals, from bootstrap draws of each cell's statistic.

    Raises ValueError for a level that is no share. Source: Efron 1987, J. Am. Stat. Assoc. 82.

    >>> bca_ends(np.arange(101.0)[:, None], np.array([50.0]), np.zeros(1), 0.9).round().ravel().tolist()
    [5.0, 95.0]
    """
    tails = np.array([(1 - checked_level(level)) / 2, (1 + level) / 2])
    drawn, draws = np.sort(drawn, axis=0), len(drawn)
    below = ((drawn < estimates).mean(0) + (drawn <= estimates).mean(0)) / 2
    bias = scipy.special.ndtri(below.clip(1 / (draws + 1), draws / (draws + 1)))
    moved = bias + scipy.special.ndtri(tails)[:, None]
    return _quantiles(drawn, scipy.special.ndtr(bias + moved / (1 - acceleration * moved)))


def _quantiles(drawn: Floats, at: Floats) -> Floats:
    """Linearly interpolated quantiles `at` `[2, cell]` of sorted columns `drawn` `[draw, cell]`."""
    place = at * (len(drawn) - 1)
    under = np.floor(place).astype(np.int64)
    low = np.take_along_axis(drawn, under, axis=0)
    high = np.take_along_axis(drawn, np.minimum(under + 1, len(drawn) - 1), axis=0)
    return np.asarray(low + (high - low) * (place - under))
