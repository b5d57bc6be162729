"""Tables of the study: checkpoints, heads, what each method ends with, and whether heads go with reward."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations, product
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

import circuitkit as ck
from circuitkit.circuits import compare_complexity
from dynamics.study import Followed

LEAST_POINTS = 4
"""Fewer points of a curve than these have no correlation worth the name; the reward's changes may have as few."""
_UNKNOWN = ("correlation", "p", "smallest_p", "p_points", "correlation_other")
_SURE = 0.95
CURVES = {
    "kept": "heads of the start that are still active",
    "new": "heads that are active and were not at the start",
    "turnover": "heads that came or went since the checkpoint before",
}


def checkpoints_table(followed: Sequence[Followed]) -> pd.DataFrame:
    """A row a training and checkpoint: accuracy, reward, edges, heads, those kept, new, and come or gone, and noise.

    `noise` is how many heads would differ between two circuits of the same checkpoint, found on two samples of prompts.
    """
    return pd.concat([_of_run(each) for each in followed], ignore_index=True)


def _of_run(each: Followed) -> pd.DataFrame:
    cohorts = each.cohorts
    base = int(cohorts.base.sum())
    active = cohorts.active
    new = (active & ~cohorts.base).sum((1, 2)).tolist()
    kept = (active & cohorts.base).sum((1, 2)).tolist()
    turnover = cohorts.turnover
    moved = (turnover["new"] + turnover["gone"]).tolist()
    return each.told.assign(
        edges=cohorts.sizes,
        heads=[base, *active.sum((1, 2)).tolist()],
        kept=[1.0, *(one / base if base else float("nan") for one in kept)],
        new=[0, *new],
        turnover=[float("nan"), *moved],
        jaccard=[float("nan"), *turnover["jaccard"]],
    )


def heads_table(followed: Sequence[Followed]) -> pd.DataFrame:
    """A row a training and head that was ever active: when it appeared, how long it stayed, whether it is left."""
    return pd.concat(
        [each.cohorts.frame.assign(method=each.run.method, seed=each.run.seed) for each in followed], ignore_index=True
    )


def changes_table(followed: Sequence[Followed], resamples: int, seed: int = 0) -> pd.DataFrame:
    """A row a training: heads that are new and gone at its end, and how many are so in 95 % of resamples of prompts.

    Each resample takes the same prompts for start and end. `new_by_noise` is how many heads seem new between two
    samples of one model, of the one with more noise; `p` is the chance of as many.
    """
    rows = []
    for each in followed:
        first, last = each.graphs[0], each.graphs[max(each.graphs)]
        found = ck.circuits.emergent_heads(
            base=first, post=last, names=("start", "end"), resamples=resamples, seed=seed, progress=False
        )
        row = {"method": each.run.method, "seed": each.run.seed, "new": len(found.emergent), "gone": len(found.lost)}
        if (support := found.support) is not None:
            row |= {
                "surely_new": len(found.sure),
                "surely_gone": sum(float(support.lost[head]) >= _SURE for head in found.lost),
                "new_by_noise": float(support.noise.double().mean(1).max()),
                "p": support.p(len(found.emergent)),
            }
        rows.append(row)
    return pd.DataFrame(rows)


def complexity_table(followed: Sequence[Followed]) -> pd.DataFrame:
    """A row a training and measure: heads, degrees and paths at start and end."""
    parts = []
    for each in followed:
        first, last = each.graphs[0], each.graphs[max(each.graphs)]
        if first.heads and last.heads:
            found = compare_complexity(first, last, names=("start", "end"), draws=0, progress=False).frame
            parts.append(found.assign(method=each.run.method, seed=each.run.seed))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def methods_table(checkpoints: pd.DataFrame, complexity: pd.DataFrame) -> pd.DataFrame:
    """A row a method: means over seeds of what it ends with, with Student's 95 % intervals (none of one seed)."""
    last = checkpoints.loc[checkpoints.groupby(["method", "seed"], sort=False)["step"].idxmax()]
    moved = checkpoints[checkpoints["step"] > 0].groupby(["method", "seed"], sort=False)["turnover"].mean()
    noise = checkpoints.groupby(["method", "seed"], sort=False)["noise"].mean()
    rows = []
    for method, own in last.groupby("method", sort=False):
        row: dict[str, Any] = {"method": method, "seeds": len(own)}
        values = {name: own[name] for name in ("accuracy", "heads", "kept", "new")}
        values |= {"turnover": moved[method], "noise": noise[method]}
        if len(complexity):
            ends = complexity[complexity["method"] == method]
            values |= {
                f"{name} of heads": ends.loc[ends["measure"] == name, "post"]
                for name in ("in_degree", "out_degree", "paths")
            }
        for name, each in values.items():
            mean, low, high = student(each.to_numpy(dtype=float))
            most = 1.0 if name in ("accuracy", "kept") else float("inf")
            row |= {name: mean, f"{name}_low": np.clip(low, 0, most), f"{name}_high": np.clip(high, 0, most)}
        rows.append(row)
    return pd.DataFrame(rows)


def student(values: np.ndarray) -> tuple[float, float, float]:
    """A mean over seeds and Student's 95 % interval; NaN ends of one seed.

    >>> student(np.array([1.0, 1.0]))
    (1.0, 1.0, 1.0)
    """
    mean = float(values.mean())
    if len(values) < 2:
        return mean, float("nan"), float("nan")
    reach = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return mean, mean - reach, mean + reach


def correlations_table(checkpoints: pd.DataFrame, block: int | None, seed: int = 0) -> pd.DataFrame:
    """A row a method (and all together), curve, what it is held against, and levels or changes: correlation and p.

    Curves are held against the accuracy on held-out questions (`goes_with`), and of GRPO against the reward too: the
    mean over responses that were drawn since the checkpoint before, which the start has not.

    `p` permutes blocks of checkpoints within each training; `p_points` permutes single ones, as if neighbours had
    nothing in common, and is there to be compared. `correlation_other` is the mean correlation of a curve with the
    accuracy of another seed's training by the same method: what goes together for having the same trend alone does so
    there too. All trainings are permuted alike, since those of one seed have the same examples in the same order.
    `p_corrected` is Holm's, over the rows of one kind ("levels" or "changes").
    """
    rows = []
    groups = [(str(method), own) for method, own in checkpoints.groupby("method", sort=False)]
    for method, own in [*groups, ("all", checkpoints)]:
        for curve, measure, kind in product(CURVES, ("accuracy", "reward"), ("levels", "changes")):
            known = own[own[measure].notna()]
            if len(known) and (measure == "accuracy" or method != "all"):
                told = {"method": method, "curve": curve, "goes_with": measure, "of": kind}
                rows.append(told | _correlated(known, curve, measure, kind, block, seed))
    table = pd.DataFrame(rows)
    table["p_corrected"] = float("nan")
    for _, own in table.groupby("of"):
        table.loc[own.index, "p_corrected"] = ck.statistics.holm(own["p"])
    return table


def _correlated(
    own: pd.DataFrame, curve: str, measure: str, kind: str, block: int | None, seed: int
) -> dict[str, float]:
    curves: dict[tuple[str, int], tuple[np.ndarray, np.ndarray]] = {}
    for (method, number), run in own.sort_values("step").groupby(["method", "seed"], sort=False):
        pair = run[curve].to_numpy(dtype=float), run[measure].to_numpy(dtype=float)
        if curve == "turnover":
            # Nothing came or went before the first; what did since goes with how far the other moved since.
            pair = pair[0][1:], np.abs(np.diff(pair[1])) if kind == "changes" else pair[1][1:]
        elif kind == "changes":
            pair = np.diff(pair[0]), np.diff(pair[1])
        curves[str(method), int(number)] = pair
    first, second = zip(*curves.values(), strict=True)
    if min(map(len, first)) < LEAST_POINTS:
        return {"trainings": 0, **dict.fromkeys(_UNKNOWN, float("nan"))}
    found = ck.statistics.block_permutation_test(first, second, block=block, seed=seed)
    points = ck.statistics.block_permutation_test(first, second, block=1, seed=seed)
    return {
        "correlation": found.correlation,
        "p": found.p,
        "smallest_p": found.smallest,
        "block": found.block,
        "trainings": found.n_runs,
        "p_points": points.p,
        "correlation_other": _with_others(curves),
    }


def _with_others(curves: dict[tuple[str, int], tuple[np.ndarray, np.ndarray]]) -> float:
    """The mean correlation of one seed's curve with another seed's accuracy, method by method."""
    found = [
        float(np.corrcoef(curves[one][0], curves[other][1])[0, 1])
        for one, other in permutations(curves, 2)
        if one[0] == other[0] and np.ptp(curves[one][0]) > 0 and np.ptp(curves[other][1]) > 0
    ]
    return float(np.mean(found)) if found else float("nan")
