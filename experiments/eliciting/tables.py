"""The study's tables: what cells gave item by item, as accuracies, recovered per cent, and an answer in words.

A trained model has two sources of chance: which items are asked, and which examples and order its seed drew. Intervals
over each are given, and one over both, which is what the answer goes by. Accuracies, gains and shares are in per cent.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from circuitkit import statistics

SUFFICES = 50.0
"""Per cent of the way to the skyline that are called enough."""
DRAWS = 10_000
"""Bootstrap draws of runs and items together."""

Verdicts = NDArray[np.float64]  # [run, item], 1 where an answer is right


def verdicts(told: str) -> dict[str, Verdicts]:
    """By judge, what a cell kept: '{"strict": "0110/0111"}' is two runs of four items."""
    return {
        judge: np.array([[float(each) for each in run] for run in runs.split("/")])
        for judge, runs in json.loads(told).items()
    }


@dataclass(frozen=True)
class Group:
    """All runs of one size, benchmark, training and number of examples, beside the base and the skyline.

    Attributes:
        size, benchmark, training, examples: which.
        base, skyline: verdicts `[item]`, the mean over runs where tokens were drawn.
        trained: verdicts `[run, item]`: a run a training, the mean over its runs where tokens were drawn; of one
            training alone, its drawn runs, whose spread is then of draws and not of trainings.
        frame: the cells' rows, a row a seed.
    """

    size: str
    benchmark: str
    training: str
    examples: int
    base: Verdicts
    skyline: Verdicts
    trained: Verdicts
    frame: pd.DataFrame


def groups_of(judged: pd.DataFrame, trained: pd.DataFrame, benchmarks: Mapping[str, str]) -> Iterator[Group]:
    """Cells grouped, for each benchmark: the name by which tables call a judge, by that judge."""
    ends = {(row["size"], row["role"]): verdicts(row["right"]) for row in judged.to_dict("records")}
    for (size, training, examples), frame in trained.groupby(["size", "training", "examples"], sort=False):
        found = [verdicts(each) for each in frame["right"]]
        for judge, benchmark in benchmarks.items():
            base, skyline = (ends[size, role][judge].mean(0) for role in ("base", "skyline"))
            # Draws of one training are no trainings of their own: as such they would narrow every interval.
            runs = np.stack([each[judge].mean(0) for each in found]) if len(found) > 1 else found[0][judge]
            yield Group(size, benchmark, training, int(examples), base, skyline, runs, frame)


def elicited_table(
    judged: pd.DataFrame, trained: pd.DataFrame, benchmarks: Mapping[str, str], seed: int
) -> pd.DataFrame:
    """A row a size, benchmark, training and number of examples: accuracy, recovered per cent, loss, what failed.

    `judged` has a row a model that was not trained here: `size`, `role` ("base" or "skyline") and what a cell gave;
    `trained` one a trained model: `size`, `training`, `examples`, `seed` and what a cell gave. The p-values of gains
    are corrected over all rows of a benchmark (Holm). Bases and skylines have rows too, of training "none" and
    "distilled".
    """
    table = pd.DataFrame([_elicited(each, seed) for each in groups_of(judged, trained, benchmarks)])
    for _, part in table.groupby("benchmark"):
        table.loc[part.index, "p_gain_corrected"] = statistics.holm(part["p_gain"])
    return pd.concat([_ends(judged, benchmarks), table], ignore_index=True)


def _ends(judged: pd.DataFrame, benchmarks: Mapping[str, str]) -> pd.DataFrame:
    rows = []
    for row in judged.to_dict("records"):
        found = verdicts(row["right"])
        for judge, benchmark in benchmarks.items():
            right = found[judge]
            training = {"base": "none", "skyline": "distilled"}[row["role"]]
            # One greedy run has no seeds: its error is that of its items.
            error = right.mean(1).std(ddof=1) / np.sqrt(len(right)) if len(right) > 1 else _binomial(right[0])
            told: dict[str, Any] = {name: row[name] for name in ("size", "parameters", "truncated", "unparseable")}
            told |= {"benchmark": benchmark, "training": training, "runs": len(right), "items": right.shape[1]}
            low, high = accuracy_interval(right)
            told |= {"accuracy": 100 * right.mean(), "accuracy_low": low, "accuracy_high": high}
            rows.append({**told, "accuracy_se": 100 * error})
    return pd.DataFrame(rows)


def accuracy_interval(right: Verdicts, seed: int = 0, level: float = 0.95) -> tuple[float, float]:
    """Ends of the interval of an accuracy in per cent, in which items and, where there are several, runs are drawn.

    Wilson's of the items; of several runs as wide as the bootstrap's over both, too, if that is wider.
    """
    n, items = right.shape
    ends = statistics.wilson(round(float(right.mean(0).sum())), items, level=level)
    low, high = float(ends.low), float(ends.high)
    if n > 1:
        rng = np.random.default_rng(seed)
        by_item = rng.multinomial(items, np.full(items, 1 / items), size=DRAWS) / items
        by_run = rng.multinomial(n, np.full(n, 1 / n), size=DRAWS) / n
        drawn = np.quantile((by_run @ right * by_item).sum(1), [(1 - level) / 2, (1 + level) / 2])
        low, high = min(low, float(drawn[0])), max(high, float(drawn[1]))
    return 100 * low, 100 * high


def _binomial(right: Verdicts) -> float:
    return float(np.sqrt(right.mean() * (1 - right.mean()) / len(right)))


def _elicited(group: Group, seed: int) -> dict[str, Any]:
    runs, frame = group.trained.mean(1), group.frame
    n = len(runs)
    low, high = accuracy_interval(group.trained, seed)
    return {
        "size": group.size,
        "parameters": frame["parameters"].iloc[0],
        "benchmark": group.benchmark,
        "training": group.training,
        "examples": group.examples,
        "trainable": frame["trainable"].iloc[0],
        "learning_rate": frame["learning_rate"].iloc[0],
        "runs": n,
        "items": group.trained.shape[1],
        "accuracy": 100 * runs.mean(),
        "accuracy_low": low,
        "accuracy_high": high,
        "accuracy_se": 100 * runs.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan,
        "gain": 100 * (runs.mean() - group.base.mean()),
        "p_gain": gain_p(group.base, group.trained, seed),
        "truncated": frame["truncated"].mean(),
        "unparseable": frame["unparseable"].mean(),
        **{name: frame[name].mean() for name in ("loss_before", "loss_best", "loss_chosen", "chosen")},
        "loss_decrease": (frame["loss_before"] - frame["loss_chosen"]).mean(),
        **recovered_row(group, seed),
    }


def recovered_row(group: Group, seed: int, level: float = 0.95) -> dict[str, Any]:
    """Recovered per cent, with intervals over items, over runs, and (`low`, `high`) over both."""
    n, items = group.trained.shape
    outcomes = np.tile(group.base, n), group.trained.ravel(), np.tile(group.skyline, n)
    by_item = np.tile(np.arange(items), n).tolist()
    over_items = statistics.recovered(*outcomes, groups=by_item, level=level, seed=seed)
    row: dict[str, Any] = {
        "recovered": float(over_items.value),
        "items_low": float(over_items.low),
        "items_high": float(over_items.high),
        "items_bootstrap_low": float(over_items.bootstrap_low),
        "items_bootstrap_high": float(over_items.bootstrap_high),
        "undefined": over_items.undefined,
        **dict.fromkeys(("runs_low", "runs_high", "low", "high"), np.nan),
    }
    if over_items.undefined is None:
        if n > 1:
            by_run = np.repeat(np.arange(n), items).tolist()
            over_runs = statistics.recovered(*outcomes, groups=by_run, level=level, seed=seed)
            row |= {"runs_low": float(over_runs.low), "runs_high": float(over_runs.high)}
        row["low"], row["high"] = over_both(group, seed, level)
    return row


def over_both(group: Group, seed: int, level: float = 0.95) -> tuple[float, float]:
    """Ends of recovered per cent's bootstrap interval in which runs and items are both drawn, each by itself.

    Source: Owen 2007, Ann. Appl. Stat. 1 (the pigeonhole bootstrap, which errs towards wide intervals).
    """
    n, items = group.trained.shape
    rng = np.random.default_rng(seed)
    by_item = rng.multinomial(items, np.full(items, 1 / items), size=DRAWS) / items
    by_run = rng.multinomial(n, np.full(n, 1 / n), size=DRAWS) / n
    start, end = by_item @ group.base, by_item @ group.skyline
    reached = (by_run @ group.trained * by_item).sum(1)
    # As angles, which go on evenly where a draw's skyline falls to its base.
    angles = np.arctan2(reached - start, end - start)
    low, high = np.quantile(angles, [(1 - level) / 2, (1 + level) / 2])
    # Beyond a quarter turn a draw's skyline is under its base: no number of per cent is as far.
    beyond = [np.tan(angle) if abs(angle) < np.pi / 2 else np.copysign(np.inf, angle) for angle in (low, high)]
    return 100 * float(beyond[0]), 100 * float(beyond[1])


def gain_p(base: Verdicts, trained: Verdicts, seed: int) -> float:
    """The larger of two p-values of no gain: over items (sign flips) and over runs (Student's t), both two-sided."""
    gains = trained - base
    over_items = float(statistics.sign_flip_test(gains.mean(0), seed=seed).p)
    by_run = gains.mean(1)
    if len(by_run) < 2 or np.ptp(by_run) == 0:
        return over_items
    return max(over_items, float(stats.ttest_1samp(by_run, 0.0).pvalue))


def sufficiency_table(
    judged: pd.DataFrame,
    trained: pd.DataFrame,
    benchmarks: Mapping[str, str],
    seed: int,
    examples: int = 29,
    threshold: float = SUFFICES,
) -> pd.DataFrame:
    """Whether so many examples suffice in full fine-tuning, size by size: all that the answer goes by.

    They suffice where the lower end of recovered per cent, runs and items both drawn, is at `threshold` or above and
    the gain over the base has p < 0.05; intervals are Bonferroni's and p Holm's over the sizes that are asked about,
    those whose skyline beats its base.
    """
    asked = trained[(trained["examples"] == examples) & (trained["training"] == "full")]
    found = list(groups_of(judged, asked, benchmarks))
    rows = []
    for group in found:
        share = recovered_row(group, seed)
        rows.append(
            {
                "size": group.size,
                "parameters": group.frame["parameters"].iloc[0],
                "benchmark": group.benchmark,
                "examples": examples,
                "p": gain_p(group.base, group.trained, seed),
                "recovered": share["recovered"],
                "undefined": share["undefined"],
            }
        )
    table = pd.DataFrame(rows).assign(low=np.nan, high=np.nan, level=np.nan, p_corrected=np.nan)
    for _, part in table.groupby("benchmark"):
        defined = part.index[part["undefined"].isna()]
        if not len(defined):
            continue
        level = 1 - 0.05 / len(defined)
        table.loc[defined, ["low", "high"]] = [over_both(found[at], seed, level) for at in defined]
        table.loc[defined, "level"] = level
        table.loc[defined, "p_corrected"] = statistics.holm(table.loc[defined, "p"])
    table["suffices"] = (table["low"] >= threshold) & (table["p_corrected"] < 0.05)
    return table


def answer(table: pd.DataFrame, threshold: float = SUFFICES) -> str:
    """In words: from which size so many examples suffice, by the rows of one benchmark in a `sufficiency_table`."""
    examples = int(table["examples"].iloc[0])
    asked = table[table["undefined"].isna()].sort_values("parameters")
    if asked.empty:
        return f"Whether {examples} examples suffice cannot be asked: no skyline beats its base."
    sizes, enough = asked["size"].tolist(), asked["suffices"].tolist()
    from_here_on = [size for at, size in enumerate(sizes) if all(enough[at:])]
    held = [size for size, found in zip(sizes, enough, strict=True) if found]
    if from_here_on:
        verdict = f"{examples} examples suffice from {from_here_on[0]} on"
    elif held:
        verdict = f"{examples} examples suffice at {', '.join(held)}, and not at every larger size"
    else:
        verdict = f"At no size do {examples} examples suffice"
    figures = "; ".join(
        f"{row.size} {row.recovered:.0f} % ({row.low:.0f} to {row.high:.0f})" for row in asked.itertuples(name="Row")
    )
    said = (
        f"{verdict}. Recovered: {figures}. To suffice is to recover {threshold:.0f} % of the skyline's lead at least, "
        f"by the lower end of an interval of {100 * asked['level'].iloc[0]:.1f} % (95 % over all {len(asked)} sizes), "
        "and to gain with p < 0.05 (Holm)."
    )
    left_out = table.loc[table["undefined"].notna(), "size"].tolist()
    if left_out:
        said += f" Not asked of {', '.join(left_out)}, whose skyline does not beat its base."
    return said.replace("-", "−")


def fewest_table(table: pd.DataFrame, threshold: float = SUFFICES) -> pd.DataFrame:
    """For each size and benchmark, the fewest examples of full fine-tuning that suffice, by an `elicited_table`.

    Its intervals are of 95 % each, and its p-values corrected over all of a benchmark's rows; NaN where none suffice.
    """
    full = table[table["training"] == "full"]
    enough = full["undefined"].isna() & (full["low"] >= threshold) & (full["p_gain_corrected"] < 0.05)
    fewest = full.assign(fewest=full["examples"].where(enough))
    return fewest.groupby(["size", "benchmark"], sort=False)["fewest"].min().reset_index()
