"""Attention scores beside what models get right: right against wrong items, and accuracy within families."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from math import factorial

import numpy as np
import pandas as pd
import scipy
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from circuitkit import statistics
from circuitkit.statistics.cells import Floats, as_array

_MOST_ORDERS = 50_000


def by_outcome(
    values: Float[Tensor, "item layer head"],
    right: Sequence[bool] | Bool[Tensor, " item"],
    *,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    seed: int = 0,
    draws: int = 10_000,
) -> pd.DataFrame:
    """Compare a score of each item, layer and head between the items that a model gets right and those it gets wrong.

    Gives a row a layer and head: both means, their difference (right less wrong) with a 95 % bootstrap interval, the
    permutation p of that head alone, and p corrected over all heads (step-down max-T).

    Args:
        values: such as `GoldScores.values`; NaN where a layer lacks a head.
        right: which items the model got right.
        layers, heads: what the axes stand for; counted from 0 if None.
        seed: of the permutations and the bootstrap.
        draws: of them.

    Raises:
        ValueError: there is not one label an item, or fewer than two items are right, or wrong.

    >>> import torch
    >>> scores = torch.tensor([0.9, 0.8, 0.85, 0.7, 0.2, 0.1, 0.3, 0.15])[:, None, None]
    >>> by_outcome(scores, [True] * 4 + [False] * 4)["difference"].round(3).tolist()
    [0.625]
    """
    labels = np.asarray(right, dtype=bool)
    table = np.moveaxis(as_array(values), 0, -1)
    found = statistics.difference_of_groups(table, labels, seed=seed, draws=draws)
    layer, head = np.nonzero(~np.isnan(found.difference))
    at = (layer, head)
    return pd.DataFrame(
        {
            "layer": np.asarray(range(table.shape[0]) if layers is None else layers)[layer],
            "head": np.asarray(range(table.shape[1]) if heads is None else heads)[head],
            "right": table[..., labels].mean(-1)[at],
            "wrong": table[..., ~labels].mean(-1)[at],
            "difference": found.difference[at],
            "low": found.low[at],
            "high": found.high[at],
            "p": found.p[at],
            "p_corrected": found.p_corrected[at],
            "n_right": int(labels.sum()),
            "n_wrong": int((~labels).sum()),
        }
    )


def against_accuracy(
    table: pd.DataFrame,
    *,
    score: str = "score",
    accuracy: str = "accuracy",
    family: str = "family",
    seed: int = 0,
    draws: int = 10_000,
) -> pd.DataFrame:
    """Rank-correlate models' scores with their accuracies: over all models, within each family, and within families.

    The row "all" is what a reader of one scatter plot sees, and mixes families that differ in both. The row "within
    families" is the mean of the families' correlations, weighted by their models, with accuracies permuted inside each
    family alone. The p is two-sided; that of a family is exact where it has few models, and its least value is told
    beside it: three models of one family cannot reach 0.05. A family whose scores or accuracies are all alike has no
    correlation: its row holds NaN, and "within families" leaves it out.

    Args:
        table: a row a model.
        score, accuracy, family: names of its columns.
        seed: of the permutations.
        draws: of them.

    Raises:
        ValueError: a column is missing or holds NaN, or no family has three models that differ in both.

    >>> models = pd.DataFrame({"family": list("aaabbb"), "score": [1, 2, 3, 7, 8, 9], "accuracy": [6, 5, 4, 9, 8, 7]})
    >>> against_accuracy(models).set_index("models_of")["correlation"].round(2).to_dict()
    {'all': 0.54, 'a': -1.0, 'b': -1.0, 'within families': -1.0}
    """
    if missing := [name for name in (score, accuracy, family) if name not in table]:
        raise ValueError(f"the table has no column {missing[0]!r}")
    if bool(table[[score, accuracy]].isna().any().any()):
        raise ValueError("a model has no score or no accuracy: leave it out")
    rng = np.random.default_rng(seed)
    groups = {str(name): group for name, group in table.groupby(family, sort=False) if len(group) >= 3}
    if not groups:
        raise ValueError("no family has three models, so nothing can be said within one")
    differing = [name for name, group in groups.items() if group[[score, accuracy]].nunique().min() > 1]
    if not differing:
        raise ValueError("in every family all scores or all accuracies are alike, so nothing can be said within one")
    rows: list[dict[str, object]] = []
    drawn: dict[str, Floats] = {}
    found: dict[str, float] = {}
    for name, group in {"all": table, **groups}.items():
        if name != "all" and name not in differing:
            unknown = dict.fromkeys(("correlation", "p", "least_p"), np.nan)
            rows.append({"models_of": name, "models": len(group), **unknown})
            continue
        scores, accuracies = _ranks(group, score, accuracy)
        found[name] = float(scores @ accuracies)
        drawn[name], exact = _permuted(scores, accuracies, draws, rng)
        rows.append(_row(name, len(scores), found[name], drawn[name], exact))
    sizes = np.array([len(groups[name]) for name in differing])
    weights = sizes / sizes.sum()
    mean = float(weights @ np.array([found[name] for name in differing]))
    together = np.asarray(weights @ np.stack([rng.choice(drawn[name], draws) for name in differing]))
    rows.append(_row("within families", int(sizes.sum()), mean, together, exact=False))
    return pd.DataFrame(rows)


def _ranks(group: pd.DataFrame, score: str, accuracy: str) -> tuple[Floats, Floats]:
    """Ranks, centred and scaled so that their product is Spearman's correlation."""
    both = []
    for name in (score, accuracy):
        ranks = scipy.stats.rankdata(group[name].to_numpy(dtype=np.float64))
        centred = ranks - ranks.mean()
        both.append(centred / float(np.linalg.norm(centred)))
    return both[0], both[1]


def _permuted(
    scores: Floats, accuracies: Floats, draws: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], bool]:
    """Correlations under permuted accuracies, of all orders where they are few."""
    orders = _orders(len(scores))
    if orders is not None:
        return np.asarray(accuracies[orders] @ scores), True
    return np.asarray(rng.permuted(np.tile(accuracies, (draws, 1)), axis=1) @ scores), False


def _orders(n: int) -> NDArray[np.int64] | None:
    return np.array(list(permutations(range(n)))) if factorial(n) <= _MOST_ORDERS else None


def _row(name: str, n: int, observed: float, drawn: Floats, exact: bool) -> dict[str, object]:
    as_far = int((np.abs(drawn) >= abs(observed) - 1e-9).sum())
    counted = 0 if exact else 1
    most = int((np.abs(drawn) >= np.abs(drawn).max() - 1e-9).sum()) if exact else 1
    return {
        "models_of": name,
        "models": n,
        "correlation": observed,
        "p": (as_far + counted) / (len(drawn) + counted),
        "least_p": most / (len(drawn) + counted),
    }
