"""How much of the way from a base to a skyline a trained model has gone, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import scipy
from numpy.typing import ArrayLike

from circuitkit.showing import Shown
from circuitkit.statistics.cells import Array, Floats, Groups, as_array, blocks, by_group, checked_level
from circuitkit.statistics.intervals import bca_ends, jackknife_acceleration

_HALVINGS = 60

_Drawn: TypeAlias = tuple[Floats, Floats]
"""Gains and distances of each draw and cell, `[draw, cell]` each."""


@dataclass(frozen=True, repr=False)
class Recovered(Shown):
    """The share recovered, in per cent, its standard error, three intervals, and where it is undefined.

    Every field but `level` has the shape `[*cells]`; where a cell is undefined `undefined` says why, and the figures
    are NaN, and where it is not `undefined` is None.
    """

    value: Floats
    se: Floats
    low: Floats
    high: Floats
    fieller_low: Floats
    fieller_high: Floats
    bootstrap_low: Floats
    bootstrap_high: Floats
    undefined: Any
    level: float

    @property
    def frame(self) -> pd.DataFrame:
        """A row a cell, in the cells' order (the last axis runs fastest)."""
        named = [field.name for field in fields(self) if field.name != "level"]
        columns = {name: np.asarray(getattr(self, name)).ravel() for name in named}
        # As objects, since pandas makes a missing text NaN.
        return pd.DataFrame(columns).assign(undefined=pd.Series(columns["undefined"], dtype=object))

    def __str__(self) -> str:
        if np.ndim(self.value):
            return self.frame.to_string()
        if self.undefined is not None:
            return str(self.undefined)
        return (
            f"{self.value:.1f} % recovered (standard error {self.se:.1f}; {100 * self.level:.0f} % interval "
            f"{self.low:.1f} to {self.high:.1f})"
        )


@dataclass(frozen=True)
class _Gains:
    """Gain over the base and distance of the skyline, `[cell]` each, and how the two vary together.

    The base is in both, so that its error moves them together: that is the covariance.
    """

    gain: Floats
    distance: Floats
    var_gain: Floats
    covariance: Floats
    var_distance: Floats
    freedom: Callable[[Floats], Floats]
    """Degrees of freedom of gain − share * distance, for a share of each cell; of an infinite one, of the distance."""

    def variance(self, share: Floats) -> Floats:
        """The variance of gain − share * distance."""
        return np.asarray(self.var_gain - 2 * share * self.covariance + share**2 * self.var_distance).clip(min=0.0)

    def critical(self, share: Floats, level: float) -> Floats:
        return np.asarray(scipy.stats.t.ppf((1 + level) / 2, self.freedom(share)))


def recovered(
    base: ArrayLike | Array,
    trained: ArrayLike | Array,
    skyline: ArrayLike | Array,
    *,
    se: tuple[ArrayLike, ArrayLike, ArrayLike] | None = None,
    runs: int | None = None,
    groups: Groups | None = None,
    level: float = 0.95,
    draws: int = 10_000,
    seed: int = 0,
) -> Recovered:
    """Recovered %: (trained − base) / (skyline − base) * 100, with propagated, Fieller's and bootstrap intervals.

    Two kinds of input are taken. With `se`, the standard errors of the three in their order, all six are means and
    errors of one unit, `[*cells]` or broadcast to it, the three independent of each other. Without, the last axis of
    the three holds outcomes (`[*cells, example]`, such as right or wrong), the same items in the same order, and
    `groups` names each one's cluster: its item where several seeds answer it, or its seed.

    - `low`, `high`: the delta method; the base's error counts in numerator and denominator together.
    - `fieller_low`, `fieller_high`: Fieller's interval, better where the skyline is within some errors of the base:
      it inverts the test of trained − base = share * (skyline − base), and lies unevenly about the value.
    - `bootstrap_low`, `bootstrap_high`: with `se` parametric, each mean drawn about itself; without, whole clusters
      are drawn, the same ones of all three models (bias-corrected and accelerated).

    `runs` is how many runs each standard error is of, for Student's t in place of the normal distribution (with
    Welch and Satterthwaite's degrees of freedom): the error of four runs is itself unsure. A cell is undefined where
    the skyline does not beat the base by more than its error, that is where the interval of skyline − base at
    `level` does not lie above 0. There Fieller's interval would have no ends.

    Raises ValueError for errors below 0, NaN, fewer than two runs or clusters, shapes that do not fit, or `runs`
    with outcomes and `groups` with means. Source: Fieller 1954, J. R. Stat. Soc. B 16; Efron 1987, J. Am. Stat.
    Assoc. 82.

    >>> found = recovered(14.58, [34.17, 53.75], 64.58, se=(1.05, [1.86, 2.08], 1.72))
    >>> found.value.round(1).tolist()
    [39.2, 78.3]
    """
    checked_level(level)
    rng = np.random.default_rng(seed)
    if se is not None:
        if groups is not None:
            raise ValueError("groups are those of outcomes: leave them out, or se")
        shape, gains, drawn = _of_means((base, trained, skyline), se, runs, draws, rng)
        acceleration: Floats | None = None
    else:
        if runs is not None:
            raise ValueError("runs tell how sure se is: leave it out with outcomes, and name their groups")
        shape, gains, drawn, acceleration = _of_outcomes((base, trained, skyline), groups, draws, rng)
    return _intervals(shape, gains, drawn, acceleration, level)


def _of_means(
    means: tuple[Any, Any, Any], se: tuple[Any, Any, Any], runs: int | None, draws: int, rng: np.random.Generator
) -> tuple[tuple[int, ...], _Gains, Iterator[tuple[slice, _Drawn]]]:
    if len(se) != 3:
        raise ValueError(f"se has the standard errors of base, trained and skyline; got {len(se)}")
    if runs is not None and runs < 2:
        raise ValueError(f"an error is of two runs at least; got {runs}")
    parts = np.broadcast_arrays(*(as_array(each) for each in (*means, *se)))
    shape = parts[0].shape
    rows = np.array([part.ravel() for part in parts])
    if not np.isfinite(rows).all() or (rows[3:] < 0).any():
        raise ValueError("means and standard errors must be finite numbers, and errors 0 or more")
    base, trained, skyline = rows[:3]
    var_base, var_trained, var_skyline = rows[3:] ** 2

    def freedom(share: Floats) -> Floats:
        if runs is None:
            return np.full(len(base), np.inf)
        far = np.isinf(share)
        near = np.where(far, 0.0, share)
        terms = np.stack(
            [
                var_base * np.where(far, 1.0, (1 - near) ** 2),
                var_trained * ~far,
                var_skyline * np.where(far, 1.0, near**2),
            ]
        )
        squares = (terms**2).sum(0)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(squares > 0, terms.sum(0) ** 2 * (runs - 1) / squares, np.inf)

    def drawn() -> Iterator[tuple[slice, _Drawn]]:
        for part in blocks(len(base), 3 * draws):
            size = (3, draws, part.stop - part.start)
            noise = rng.standard_normal(size) if runs is None else rng.standard_t(runs - 1, size)
            b, t, s = rows[:3, None, part] + rows[3:, None, part] * noise
            yield part, (t - b, s - b)

    gains = _Gains(trained - base, skyline - base, var_trained + var_base, var_base, var_skyline + var_base, freedom)
    return shape, gains, drawn()


def _of_outcomes(
    outcomes: tuple[Any, Any, Any], groups: Groups | None, draws: int, rng: np.random.Generator
) -> tuple[tuple[int, ...], _Gains, Iterator[tuple[slice, _Drawn]], Floats]:
    given = [as_array(each) for each in outcomes]
    if any(each.ndim == 0 or each.shape[-1] != given[0].shape[-1] for each in given):
        shapes = ", ".join(str(each.shape) for each in given)
        raise ValueError(
            f"the last axis holds the same items of base, trained and skyline, or se is given; got {shapes}"
        )
    parts = np.broadcast_arrays(*given)
    shape = parts[0].shape[:-1]
    base, trained, skyline = (part.reshape(-1, part.shape[-1]) for part in parts)
    if not all(np.isfinite(each).all() for each in (base, trained, skyline)):
        raise ValueError("an outcome is NaN or infinite; leave its item out of all three")
    gained, sizes = by_group(trained - base, groups, "an interval")
    away, _ = by_group(skyline - base, groups, "an interval")
    # Of each cluster, so that its mean over clusters is that over items.
    scale = len(sizes) / sizes.sum()
    gained, away = gained * scale, away * scale
    n = len(sizes)
    gain, distance = gained.mean(1), away.mean(1)

    def spread(one: Floats, other: Floats) -> Floats:
        return np.asarray(
            ((one - one.mean(1, keepdims=True)) * (other - other.mean(1, keepdims=True))).sum(1) / (n - 1) / n
        )

    gains = _Gains(
        gain,
        distance,
        spread(gained, gained),
        spread(gained, away),
        spread(away, away),
        lambda share: np.full(len(gain), n - 1.0),
    )

    def drawn() -> Iterator[tuple[slice, _Drawn]]:
        weights = rng.multinomial(n, np.full(n, 1 / n), size=draws) / n
        for part in blocks(len(gain), 3 * draws):
            yield part, (weights @ gained[part].T, weights @ away[part].T)

    left_out = _angle((gain[:, None] * n - gained) / (n - 1), (distance[:, None] * n - away) / (n - 1))
    return shape, gains, drawn(), jackknife_acceleration(left_out)


def _intervals(
    shape: tuple[int, ...],
    gains: _Gains,
    drawn: Iterator[tuple[slice, _Drawn]],
    acceleration: Floats | None,
    level: float,
) -> Recovered:
    error = np.sqrt(gains.var_distance)
    reach = gains.critical(np.full_like(error, np.inf), level) * error
    there = gains.distance > reach
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(there, gains.gain / gains.distance, 0.0)
        spread = np.where(there, np.sqrt(gains.variance(share)) / gains.distance, 0.0)
    half = gains.critical(share, level) * spread
    fieller = [_fieller_end(gains, share, level, side) for side in (-1.0, 1.0)]
    resampled = np.empty((2, len(share)))
    for part, (gained, away) in drawn:
        angles = _angle(gained, away)
        if acceleration is None:
            resampled[:, part] = np.quantile(angles, [(1 - level) / 2, (1 + level) / 2], axis=0)
        else:
            estimates = _angle(gains.gain[part], gains.distance[part])
            resampled[:, part] = bca_ends(angles, estimates, acceleration[part], level)
    told = np.full(len(share), None, dtype=object)
    told[~there] = [_why(*row, level) for row in zip(gains.distance[~there], reach[~there], strict=True)]

    def given(values: Floats) -> Floats:
        per_cent: Floats = np.where(there, 100 * values, np.nan).reshape(shape)[()]
        return per_cent

    return Recovered(
        value=given(share),
        se=given(spread),
        low=given(share - half),
        high=given(share + half),
        fieller_low=given(fieller[0]),
        fieller_high=given(fieller[1]),
        bootstrap_low=given(_ratio(resampled[0])),
        bootstrap_high=given(_ratio(resampled[1])),
        undefined=told.reshape(shape)[()],
        level=level,
    )


def _fieller_end(gains: _Gains, share: Floats, level: float, side: float) -> Floats:
    """Where gain − share * distance stops being within its error, going up (side 1) or down (−1) from the estimate.

    As tangents of angles, so that an end that lies far off is found as fast; the error's degrees of freedom go with
    the share, so that there is no closed form.
    """
    inside, outside = np.arctan(share), np.full_like(share, side * np.pi / 2)
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        tried = np.tan(middle)
        within = np.abs(gains.gain - tried * gains.distance) <= gains.critical(tried, level) * np.sqrt(
            gains.variance(tried)
        )
        inside, outside = np.where(within, middle, inside), np.where(within, outside, middle)
    return np.tan(inside)


def _angle(gain: Floats, distance: Floats) -> Floats:
    """A share as an angle, which goes on evenly where a draw's skyline falls to its base, and beyond."""
    return np.asarray(np.arctan2(gain, distance))


def _ratio(angle: Floats) -> Floats:
    return np.where(np.abs(angle) < np.pi / 2, np.tan(angle), np.copysign(np.inf, angle))


def _why(distance: float, reach: float, level: float) -> str:
    low, high = distance - reach, distance + reach
    how = "does not beat" if high >= 0 else "is below"
    more = " by more than its error" if high >= 0 else ""
    return (
        f"undefined: the skyline {how} the base{more} (skyline − base {distance:.2f}, {100 * level:.0f} % interval "
        f"{low:.2f} to {high:.2f})"
    ).replace("-", "−")
