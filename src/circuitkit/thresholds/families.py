"""Whether a threshold is one of size or of the families at hand: each family by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import scipy
from jaxtyping import Bool, Float

from circuitkit.thresholds.models import Models


def within_families(models: Models, breakpoint: float, rise: float, *, level: float) -> pd.DataFrame:
    """Look at each family alone: its own largest rise, and what happens to it at the threshold of all.

    Columns: `family`, `models`, `sizes`, `smallest`, `largest` (parameters); of its own likeliest step `gap_low`,
    `gap_high` (parameters), `rise` and its interval `rise_low`, `rise_high` (Newcombe), and `p` (Fisher's exact test,
    times the gaps that were tried); `crosses`, whether it has models on both sides of `breakpoint`, and then
    `rise_across` with `across_low` and `across_high`, and `follows`, whether that rise is above none and at least half
    of the `rise` of all. Counts of a family are taken as binomial: so few models tell no spread.
    """
    return pd.DataFrame([_family(models, place, breakpoint, rise, level) for place in range(len(models.families))])


def _family(models: Models, place: int, breakpoint: float, rise: float, level: float) -> dict[str, Any]:
    own = models.family == place
    parameters = models.sizes[models.at]
    sizes = np.unique(parameters[own])
    told: dict[str, Any] = {
        "family": models.families[place],
        "models": int(own.sum()),
        "sizes": len(sizes),
        "smallest": float(sizes[0]),
        "largest": float(sizes[-1]),
    }
    told |= dict.fromkeys(("gap_low", "gap_high", "rise", "rise_low", "rise_high", "p"), np.nan)
    if len(sizes) > 1:
        gaps = [own & (parameters > low) for low in sizes[:-1]]
        best = int(np.argmax([_likelihood(models, own, above) for above in gaps]))
        low, middle, high, p = _rise(models, own & ~gaps[best], gaps[best], level)
        told |= {"gap_low": float(sizes[best]), "gap_high": float(sizes[best + 1])}
        told |= {"rise": middle, "rise_low": low, "rise_high": high, "p": min(1.0, p * len(gaps))}
    told["crosses"] = bool(sizes[0] < breakpoint < sizes[-1])
    told |= dict.fromkeys(("rise_across", "across_low", "across_high"), np.nan)
    if told["crosses"]:
        low, middle, high, _ = _rise(models, own & (parameters < breakpoint), own & (parameters >= breakpoint), level)
        told |= {"rise_across": middle, "across_low": low, "across_high": high}
    told["follows"] = bool(told["crosses"] and told["across_low"] > 0 and told["rise_across"] >= rise / 2)
    return told


def _likelihood(models: Models, own: Bool[np.ndarray, " model"], above: Bool[np.ndarray, " model"]) -> float:
    return sum(_binomial(models.correct[side].sum(), models.total[side].sum()) for side in (own & ~above, above))


def _binomial(hits: float, n: float) -> float:
    share: Float[np.ndarray, ""] = np.clip(hits / n, 1e-12, 1 - 1e-12)
    return float(hits * np.log(share) + (n - hits) * np.log1p(-share))


def _rise(
    models: Models, below: Bool[np.ndarray, " model"], above: Bool[np.ndarray, " model"], level: float
) -> tuple[float, float, float, float]:
    """The low end, the value, the high end and the p of a difference of two groups of models."""
    from statsmodels.stats.proportion import confint_proportions_2indep

    (few, of_few), (more, of_more) = (
        (int(models.correct[side].sum()), int(models.total[side].sum())) for side in (below, above)
    )
    low, high = confint_proportions_2indep(more, of_more, few, of_few, method="newcomb", alpha=1 - level)
    p = scipy.stats.fisher_exact(np.array([[more, of_more - more], [few, of_few - few]])).pvalue
    return float(low), more / of_more - few / of_few, float(high), float(p)
