"""What changing a set of heads does, question by question, and beyond what changing random heads does."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int
from statsmodels.stats.proportion import confint_proportions_2indep

from circuitkit import statistics
from circuitkit.statistics.cells import Floats

_DRAWS = 2000


def measured_beside(
    before: Float[np.ndarray, " row"],
    after: Float[np.ndarray, " row"],
    controls: Float[np.ndarray, "draw row"],
    items: Int[np.ndarray, " row"],
    seed: int = 0,
) -> dict[str, Any]:
    """A table's row: shares before and after, their difference, and how it stands among those of random sets.

    `low` and `high` are the ends of a paired bootstrap's 95 % interval over whole questions; Newcombe's, which is not
    paired, where all answers differ alike, such as not at all: that none of these does is no proof that none would. `p`
    is McNemar's exact test where each question has one answer, else a test that flips the signs of whole questions; NaN
    below two questions. `margin` is the effect less the controls' mean, with the interval of a bootstrap that draws
    questions and controls (Owen 2007, arXiv 0712.1111). `p_controls` is two-sided, from the effect's rank among the
    controls' effects; 2 / (1 + controls) at the least.

    >>> row = measured_beside(np.zeros(4), np.ones(4), np.zeros((3, 4)), np.arange(4))
    >>> row["effect"], row["margin"], row["p"], row["p_controls"]
    (1.0, 1.0, 0.125, 0.5)
    """
    row: dict[str, Any] = {"n": len(np.unique(items)), "before": float(before.mean()), "after": float(after.mean())}
    row["effect"] = row["after"] - row["before"]
    row["low"], row["high"] = _interval(before, after, items, seed)
    row["p"] = _paired_p(before, after, items, seed)
    return row | _among(before, after, controls, items, seed)


def _interval(before: Floats, after: Floats, items: Int[np.ndarray, " row"], seed: int) -> tuple[float, float]:
    n = len(np.unique(items))
    if n < 2:
        return float("nan"), float("nan")
    if np.ptp(after - before) == 0:
        hits = [round(float(share.mean()) * n) for share in (after, before)]
        low, high = confint_proportions_2indep(hits[0], n, hits[1], n, method="newcomb", compare="diff")
        return float(low), float(high)
    found = statistics.paired_bootstrap(before, after, seed=seed, groups=items.tolist())
    return found.low, found.high


def _paired_p(before: Floats, after: Floats, items: Int[np.ndarray, " row"], seed: int) -> float:
    if len(np.unique(items)) < 2:
        return float("nan")
    binary = np.isin(before, (0, 1)).all() and np.isin(after, (0, 1)).all()
    if binary and len(np.unique(items)) == len(items):
        return statistics.mcnemar(before == 1, after == 1).p
    return float(statistics.sign_flip_test((after - before)[None], seed=seed, groups=items.tolist()).p[0])


def _among(
    before: Floats, after: Floats, controls: Float[np.ndarray, "draw row"], items: Int[np.ndarray, " row"], seed: int
) -> dict[str, Any]:
    names = ("control_effect", "control_low", "control_high", "margin", "margin_low", "margin_high", "p_controls")
    if not len(controls):
        return {"controls": 0, **dict.fromkeys(names, float("nan"))}
    effects = controls.mean(1) - before.mean()
    effect = float(after.mean() - before.mean())
    ends = np.quantile(effects, [0.025, 0.975])
    low, high = _margin_interval(after, controls, items, seed)
    values = (effects.mean(), *ends, effect - effects.mean(), low, high, rank_p(effect, effects))
    return {"controls": len(controls), **{name: float(value) for name, value in zip(names, values, strict=True)}}


def rank_p(effect: float, controls: Floats) -> float:
    """The two-sided chance that a set which is no other than its controls stands as far out among them.

    >>> rank_p(5.0, np.array([0.0, 1.0, 2.0]))
    0.5
    """
    below, above = (controls <= effect + 1e-9).sum(), (controls >= effect - 1e-9).sum()
    return float(min(1.0, 2 * (1 + min(below, above)) / (1 + len(controls))))


def _margin_interval(
    after: Floats, controls: Float[np.ndarray, "draw row"], items: Int[np.ndarray, " row"], seed: int
) -> tuple[float, float]:
    """Questions and controls both drawn; what the intact model does cancels out."""
    names, where = np.unique(items, return_inverse=True)
    if len(names) < 2:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    questions = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=_DRAWS)[:, where].astype(float)
    questions /= questions.sum(1, keepdims=True)
    chosen = rng.multinomial(len(controls), np.full(len(controls), 1 / len(controls)), size=_DRAWS) / len(controls)
    drawn = questions @ after - np.einsum("dn,dn->d", chosen @ controls, questions)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)
