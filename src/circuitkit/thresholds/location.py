"""Where a threshold lies, and how far it moves when families, models and answers are drawn again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from circuitkit.thresholds.curves import CURVES, Curve
from circuitkit.thresholds.fitting import Fits, fit_curve
from circuitkit.thresholds.models import Models

Unit = Literal["families", "models"]

ENOUGH_FAMILIES = 5
"""From so many on families are drawn again as wholes; of fewer, too few different sets could be drawn."""
_AT_A_TIME = 500


@dataclass(frozen=True)
class Location:
    """The breakpoint of one curve, in parameters, and its interval.

    Attributes:
        breakpoint: of a step, the geometric middle of its gap.
        gap: the sizes next to it, between which a step may lie anywhere; of a bend, the breakpoint twice.
        interval: of the gap's ends, so that of a step it holds the gap.
        rise: from before to after: of a step between its levels, of a bend from the bend to the largest size.
        rise_interval: the interval of that.
        draws: how many draws held three sizes or more, and so counted.
    """

    breakpoint: float
    gap: tuple[float, float]
    interval: tuple[float, float]
    before: float
    rise: float
    rise_interval: tuple[float, float]
    draws: int


def unit_drawn(models: Models) -> Unit:
    """What is drawn again: whole families where there are enough of them, otherwise single models."""
    return "families" if len(models.families) >= ENOUGH_FAMILIES else "models"


def locate(models: Models, names: list[str], *, draws: int, level: float, seed: int) -> dict[str, Location]:
    """Find each threshold curve's breakpoint with its percentile interval.

    Each draw takes families (or models) with replacement, and answers anew from each model's own accuracy. Source for
    whole clusters: Cameron, Gelbach & Miller 2008, Rev. Econ. Stat. 90.
    """
    generator = np.random.default_rng([seed, 97])
    correct, total = _drawn(models, draws, generator)
    pooled_correct, pooled_total = models.pooled(correct), models.pooled(total)
    present = pooled_total > 0
    usable = present.sum(1) >= 3
    found = {}
    for name in names:
        curve = CURVES[name]
        own = _fitted(curve, models, models.pooled(models.correct[None]), models.pooled(models.total[None]))
        again = [
            _fitted(curve, models, pooled_correct[usable][s : s + _AT_A_TIME], pooled_total[usable][s : s + _AT_A_TIME])
            for s in range(0, int(usable.sum()), _AT_A_TIME)
        ]
        low, high, rises = (np.concatenate(each) for each in list(zip(*again, strict=True))[:3])
        tails = (1 - level) / 2, (1 + level) / 2
        smallest = models.sizes[0]
        gap = float(smallest * np.exp(own[0][0])), float(smallest * np.exp(own[1][0]))
        found[name] = Location(
            breakpoint=float(np.sqrt(gap[0] * gap[1])),
            gap=gap,
            interval=(
                float(smallest * np.exp(np.quantile(low, tails[0]))),
                float(smallest * np.exp(np.quantile(high, tails[1]))),
            ),
            before=float(own[3][0]),
            rise=float(own[2][0]),
            rise_interval=(float(np.quantile(rises, tails[0])), float(np.quantile(rises, tails[1]))),
            draws=int(usable.sum()),
        )
    return found


def _drawn(
    models: Models, draws: int, generator: np.random.Generator
) -> tuple[Float[np.ndarray, "draw model"], Float[np.ndarray, "draw model"]]:
    n_models, n_families = len(models.at), len(models.families)
    if unit_drawn(models) == "families":
        times = generator.multinomial(n_families, np.full(n_families, 1 / n_families), size=draws)[:, models.family]
    else:
        times = generator.multinomial(n_models, np.full(n_models, 1 / n_models), size=draws)
    total = times * models.total.astype(np.int64)
    return generator.binomial(total, models.correct / models.total).astype(np.float64), total.astype(np.float64)


def _fitted(
    curve: Curve, models: Models, correct: Float[np.ndarray, "draw size"], total: Float[np.ndarray, "draw size"]
) -> tuple[Float[np.ndarray, " draw"], ...]:
    """The low and high end of the gap of each draw, in log size, its rise, and the level before it."""
    fits = fit_curve(curve, models, correct, total)
    low, high = _gaps(curve, models, fits, total > 0)
    weight = fits.best / fits.best.sum(1, keepdims=True)
    ends = (fits.coefficients[..., -2:] * weight[..., None]).sum(1)
    return low, high, ends[:, 1] - ends[:, 0], ends[:, 0]


def _gaps(
    curve: Curve, models: Models, fits: Fits, present: Bool[np.ndarray, "draw size"]
) -> tuple[Float[np.ndarray, " draw"], Float[np.ndarray, " draw"]]:
    places = curve.places(models)[:, 0]
    if curve.name != "step":
        middle = (fits.best * places).sum(1) / fits.best.sum(1)
        return middle, middle
    first = places[fits.best.argmax(1)]
    last = places[fits.best.shape[1] - 1 - fits.best[:, ::-1].argmax(1)]
    logs = models.log_sizes
    # Sizes that a draw holds no model of cannot bound its gap.
    below = np.where(present & (logs < first[:, None]), logs, -np.inf).max(1)
    above = np.where(present & (logs > last[:, None]), logs, np.inf).min(1)
    return np.where(np.isfinite(below), below, logs[0]), np.where(np.isfinite(above), above, logs[-1])
