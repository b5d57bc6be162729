"""What changing a set of heads does, question by question, and beyond what changing random heads does."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

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
    from statsmodels.stats.proportion import confint_proportions_2indep

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


def between_levels(
    first: Float[np.ndarray, " first_row"],
    second: Float[np.ndarray, " second_row"],
    first_items: Int[np.ndarray, " first_row"],
    second_items: Int[np.ndarray, " second_row"],
    seed: int = 0,
) -> tuple[float, float, float]:
    """How sure the first level's mean is another than the second's: a bootstrap's interval of the difference, and a p.

    A question that stands at a level by each half of its answers has two rows, which are no two questions: whole
    questions are drawn, and the levels of whole questions permuted, among those of as many rows. NaN where a level has
    fewer than two questions.

    >>> low, high, p = between_levels(np.ones(6), np.zeros(6), np.arange(6), np.arange(6, 12))
    >>> (low, high), p < 0.05
    ((1.0, 1.0), True)
    """
    if min(len(np.unique(first_items)), len(np.unique(second_items))) < 2:
        return float("nan"), float("nan"), float("nan")
    values, items = np.concatenate([first, second]), np.concatenate([first_items, second_items])
    inside = np.arange(len(values)) < len(first)
    if len(np.unique(items)) == len(items):
        found = statistics.difference_of_groups(values[None], inside, seed=seed)
        return float(found.low[0]), float(found.high[0]), float(found.p[0])
    rng = np.random.default_rng(seed)
    names, where = np.unique(items, return_inverse=True)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=_DRAWS)[:, where]
    # A draw may leave a level without any question.
    low, high = np.nanquantile(_gaps(values, drawn * inside, drawn * ~inside), [0.025, 0.975])
    permuted = _permuted_levels(inside, where, rng)
    apart = np.abs(_gaps(values, permuted, ~permuted))
    observed = abs(values[inside].mean() - values[~inside].mean())
    return float(low), float(high), float((1 + (apart >= observed - 1e-9).sum()) / (1 + _DRAWS))


def _gaps(values: Floats, first: NDArray[Any], second: NDArray[Any]) -> Floats:
    """The weighted mean of values by some weights less that by others, a draw a row."""
    with np.errstate(invalid="ignore"):
        return np.asarray((first @ values) / first.sum(1) - (second @ values) / second.sum(1))


def _permuted_levels(
    inside: Bool[np.ndarray, " row"], where: Int[np.ndarray, " row"], rng: np.random.Generator
) -> Bool[np.ndarray, "draw row"]:
    """Which rows are at the first level, once the levels of whole questions have changed places."""
    permuted = np.empty((_DRAWS, len(inside)), dtype=bool)
    order, counts = np.argsort(where, kind="stable"), np.bincount(where)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    for count in np.unique(counts):
        rows = order[starts[counts == count][:, None] + np.arange(count)]
        drawn = rng.permuted(np.tile(np.arange(len(rows)), (_DRAWS, 1)), axis=1)
        # Of a question at both levels, either row may be that at the first.
        permuted[:, rows] = rng.permuted(inside[rows][drawn], axis=2)
    return permuted


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
