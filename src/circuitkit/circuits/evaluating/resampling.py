"""Examples drawn anew, whole clusters at a time, and how far any statistic of them may be off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from circuitkit.statistics.cells import BLOCK, Floats, Groups
from circuitkit.statistics.intervals import bca_ends, jackknife_acceleration

SMALL = 0.01
"""An example has no ratio where its whole is less than this part of what wholes are on average."""

_ROUNDING = 1e-6

Statistic = Callable[[Float[np.ndarray, "draw example"]], Float[np.ndarray, "draw cell"]]
"""What is made of the examples, for each of some rows of weights: how often each example counts."""


class Estimates(NamedTuple):
    """Each cell's value and the ends of its interval, NaN where there are too few examples for one."""

    value: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, eq=False)
class Resampling:
    """How often each example counts in each draw, and with each cluster left out.

    >>> drawn = Resampling.of(4, groups=["a", "a", "b", "c"], draws=10, seed=0)
    >>> bool((drawn.weights[:, 0] == drawn.weights[:, 1]).all()), drawn.left_out.tolist()[0]
    (True, [0.0, 0.0, 1.0, 1.0])
    """

    weights: Float[np.ndarray, "draw example"]
    left_out: Float[np.ndarray, "group example"]
    level: float = 0.95

    @classmethod
    def of(cls, n: int, groups: Groups | None, draws: int, seed: int, level: float = 0.95) -> Resampling:
        """Draw `n` examples anew so many times; `groups` names each one's cluster."""
        clusters = clusters_of(n, groups)
        n_clusters = int(clusters.max()) + 1
        rng = np.random.default_rng(seed)
        counts = rng.multinomial(n_clusters, np.full(n_clusters, 1 / n_clusters), size=draws).astype(np.float64)
        return cls(counts[:, clusters], 1.0 - np.eye(n_clusters)[:, clusters], level)

    def estimates(self, statistic: Statistic) -> Estimates:
        """A statistic's value over all examples, and its bias-corrected, accelerated bootstrap interval.

        Source: Efron 1987, J. Am. Stat. Assoc. 82.

        >>> values = np.arange(20.0)
        >>> drawn = Resampling.of(20, None, draws=500, seed=0)
        >>> found = drawn.estimates(lambda weights: (weights @ values / weights.sum(1))[:, None])
        >>> bool(found.low[0] < found.value[0] < found.high[0])
        True
        """
        examples = self.weights.shape[1]
        value = statistic(np.ones((1, examples)))[0]
        if len(self.left_out) < 2:
            return Estimates(value, np.full_like(value, np.nan), np.full_like(value, np.nan))
        step = max(1, BLOCK // max(1, examples, len(value)))
        blocks = range(0, len(self.weights), step)
        drawn = np.concatenate([statistic(self.weights[start : start + step]) for start in blocks])
        ends = np.full((2, len(value)), np.nan)
        # A draw may hold no example that has the statistic: then nobody knows how far it may be off.
        sure = np.isfinite(drawn).all(0) & np.isfinite(value)
        left_out = statistic(self.left_out)
        sure &= np.isfinite(left_out).all(0)
        if sure.any():
            acceleration = jackknife_acceleration(left_out[:, sure].T)
            ends[:, sure] = bca_ends(drawn[:, sure], value[sure], acceleration, self.level)
        return Estimates(value, ends[0], ends[1])


def clusters_of(n: int, groups: Groups | None) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The number of each example's cluster, counted as they come; each its own where there are no groups.

    Raises:
        ValueError: there is no example, or groups are not as many.

    >>> clusters_of(3, ["b", "a", "b"]).tolist()
    [0, 1, 0]
    """
    if n < 1:
        raise ValueError("there is no example to draw from")
    if groups is None:
        return np.arange(n)
    names = groups if isinstance(groups, list | tuple) else np.asarray(groups).tolist()
    if len(names) != n:
        raise ValueError(f"{len(names)} groups for {n} examples; name each example's group")
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names], dtype=np.int64)


def ratio_of_means(parts: Float[np.ndarray, "cell example"], wholes: Float[np.ndarray, " example"]) -> Statistic:
    """The ratio of means: what is left of each cell's sum beside the sum of the whole.

    >>> ratio_of_means(np.array([[1.0, 2.0]]), np.array([2.0, 4.0]))(np.ones((1, 2))).tolist()
    [[0.5]]
    """

    def statistic(weights: Float[np.ndarray, "draw example"]) -> Float[np.ndarray, "draw cell"]:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((weights @ parts.T) / (weights @ wholes)[:, None])

    return statistic


def alike(one: float, other: float) -> bool:
    """Whether two means are the same but for rounding, so that nothing is a share of what they differ by.

    >>> alike(2.0, 2.0000001), alike(2.0, 2.001)
    (True, False)
    """
    return abs(one - other) <= _ROUNDING * max(abs(one), abs(other))


def have_ratios(wholes: Float[np.ndarray, " example"]) -> Bool[np.ndarray, " example"]:
    """Which examples have a ratio that says anything: their whole is over 1 % (`SMALL`) of the mean magnitude.

    >>> have_ratios(np.array([2.0, -4.0, 0.01, 0.0])).tolist()
    [True, True, False, False]
    """
    magnitudes = np.abs(wholes)
    return np.asarray(magnitudes > SMALL * magnitudes.mean())


def mean_of_ratios(parts: Float[np.ndarray, "cell example"], wholes: Float[np.ndarray, " example"]) -> Statistic:
    """The mean of each example's own ratio; examples whose whole is hardly any are left out (see `have_ratios`).

    >>> mean_of_ratios(np.array([[1.0, 4.0, 9.0]]), np.array([2.0, 4.0, 0.01]))(np.ones((1, 3))).tolist()
    [[0.75]]
    """
    there = have_ratios(wholes)
    ratios = np.divide(parts, wholes, out=np.zeros_like(parts), where=there)

    def statistic(weights: Float[np.ndarray, "draw example"]) -> Float[np.ndarray, "draw cell"]:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((weights @ ratios.T) / (weights @ there.astype(np.float64))[:, None])

    return statistic
