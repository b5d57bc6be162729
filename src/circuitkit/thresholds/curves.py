"""The curves of accuracy against the logarithm of size: with a threshold, and smooth ones without.

Each is a sum of functions of size that add up to one everywhere, times coefficients that are accuracies: a curve stays
between 0 and 1 by itself, its likelihood is concave in the coefficients, and what is left, the place of its threshold
or the middle and width of its climb, is searched over a grid. Logarithms are natural and counted from the smallest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from circuitkit.thresholds.models import Models

Places = Float[np.ndarray, "place quantity"]
Basis = Float[np.ndarray, "place point coefficient"]
Points = Float[np.ndarray, " point"]

_BENDS, _MIDDLES, _WIDTHS = 24, 16, 5
_NARROWEST = np.log(2.0)
"""A climb from a tenth to nine tenths of its height over less than a doubling counts as a step, not as smooth."""
_TENTH_TO_NINE_TENTHS = 2 * np.log(9.0)


@dataclass(frozen=True)
class Curve:
    """A shape of accuracy against log size.

    Attributes:
        name: what tables call it.
        threshold: whether it has a breakpoint.
        free: how many numbers are fitted, the place among them.
        words: what a sentence calls it.
        places: the grid of a set of models: the breakpoint, or a climb's middle and width, in log size.
        basis: the functions of size at each place, at points of log size, up to the largest.
    """

    name: str
    threshold: bool
    free: int
    words: str
    places: Callable[[Models], Places]
    basis: Callable[[Places, Points, float], Basis]

    def at(self, models: Models, points: Points | None = None) -> Basis:
        """The functions of size at points of log size, the models' own unless others are given."""
        points = models.log_sizes if points is None else points
        return self.basis(self.places(models), points, float(models.log_sizes[-1]))


def _nowhere(models: Models) -> Places:
    return np.zeros((1, 1))


def _gaps(models: Models) -> Places:
    """Between any two neighbouring sizes that have two models at the least on either side: one alone is an outlier."""
    logs = models.log_sizes
    smaller = np.cumsum(np.bincount(models.at, minlength=len(logs)))[:-1]
    kept = (smaller >= 2) & (len(models.at) - smaller >= 2)
    return np.asarray((logs[1:] + logs[:-1])[kept, None] / 2)


def _bends(models: Models) -> Places:
    return np.linspace(models.log_sizes[1], models.log_sizes[-2], _BENDS)[:, None]


def _climbs(models: Models) -> Places:
    largest = float(models.log_sizes[-1])
    middles = np.linspace(0.0, largest, _MIDDLES)
    widths = np.geomspace(_NARROWEST, max(2 * largest, 4 * _NARROWEST), _WIDTHS)
    return np.stack(np.meshgrid(middles, widths, indexing="ij"), -1).reshape(-1, 2)


def _level(places: Places, points: Points, largest: float) -> Basis:
    return np.ones((len(places), len(points), 1))


def _between(rise: Float[np.ndarray, "place point"]) -> Basis:
    """A curve that goes from the first coefficient to the second as `rise` goes from 0 to 1."""
    return np.stack([1 - rise, rise], -1)


def _straight(places: Places, points: Points, largest: float) -> Basis:
    return _between(np.clip(points / largest, 0, 1)[None].repeat(len(places), 0))


def _jump(places: Places, points: Points, largest: float) -> Basis:
    return _between((points > places).astype(np.float64))


def _flat_then_rising(places: Places, points: Points, largest: float) -> Basis:
    return _between(np.clip((points - places) / (largest - places), 0, 1))


def _bent(places: Places, points: Points, largest: float) -> Basis:
    before = np.clip(points / places, 0, 1)
    after = np.clip((points - places) / (largest - places), 0, 1)
    return np.stack([1 - before, before - after, after], -1)


def _climbing(places: Places, points: Points, largest: float) -> Basis:
    middles, widths = places[:, :1], places[:, 1:]
    return _between(1 / (1 + np.exp(-_TENTH_TO_NINE_TENTHS * (points - middles) / widths)))


CURVES = {
    curve.name: curve
    for curve in (
        Curve("step", True, 3, "a step", _gaps, _jump),
        Curve("flat_then_rise", True, 3, "a flat line that starts to rise", _bends, _flat_then_rising),
        Curve("hinge", True, 4, "a bent line", _bends, _bent),
        Curve("constant", False, 1, "one accuracy at all sizes", _nowhere, _level),
        Curve("linear", False, 2, "a straight line in log parameters", _nowhere, _straight),
        Curve("logistic", False, 4, "a logistic curve", _climbs, _climbing),
    )
}
"""By name; isotonic regression, which has no coefficients, stands beside them in `prediction`."""
ISOTONIC = "isotonic"
THRESHOLDS = tuple(name for name, curve in CURVES.items() if curve.threshold)
SMOOTH = tuple(name for name, curve in CURVES.items() if not curve.threshold)


def words(name: str) -> str:
    """What a sentence calls a curve, isotonic regression among them.

    >>> words("step"), words("isotonic")
    ('a step', 'a line that only never falls')
    """
    return "a line that only never falls" if name == ISOTONIC else CURVES[name].words
