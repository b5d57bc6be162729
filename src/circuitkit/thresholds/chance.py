"""Whether models do better than chance, and the signs by which the published study tells a failure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import scipy

from circuitkit.statistics import holm, wilson
from circuitkit.thresholds.errors import ThresholdError

MOST_UNPARSEABLE = 0.16
"""Over this share of unreadable answers the published study counts a model as failing (Hsiao & Dutta 2025)."""
_SURELY_UNDER = 0.975
_CONTRADICTION = "proof_by_contradiction"


def judge_models(
    table: pd.DataFrame, *, chance: float | None = None, task: str = "", level: float = 0.95
) -> pd.DataFrame:
    """Give each row of a table its accuracy, its test against chance, and the failures that it shows.

    Adds `accuracy`, its Wilson interval `low` and `high`; where a chance is given, `p_chance` (exact binomial, one-
    sided), `p_chance_corrected` (Holm, over the rows) and `above_chance`; where there is a column `unparseable`,
    `unparseable_share`; and `failures`, in words, those of: over 16 % unparseable, accuracy at chance, proof by
    contradiction at 0 %. The last is known by `task`, or by a column `task`.

    Raises:
        ThresholdError: the chance is not between 0 and 1, or there are more unparseable answers than wrong ones.

    >>> table = pd.DataFrame({"model": ["a", "b"], "correct": [20, 60], "total": 100, "unparseable": [30, 2]})
    >>> judge_models(table, chance=0.2)["failures"].tolist()
    ['30 % unparseable; at chance', '']
    """
    if chance is not None and not 0 < chance < 1:
        raise ThresholdError(f"a chance of {chance:g} is none; give the accuracy of a random answer, such as 0.2")
    frame = table.copy()
    counts = zip(frame["correct"], frame["total"], strict=True)
    intervals = [wilson(int(hits), int(total), level=level) for hits, total in counts]
    frame["accuracy"] = frame["correct"] / frame["total"]
    frame["low"] = [interval.low for interval in intervals]
    frame["high"] = [interval.high for interval in intervals]
    if chance is not None:
        frame["p_chance"] = scipy.stats.binom.sf(frame["correct"] - 1, frame["total"], chance)
        frame["p_chance_corrected"] = holm(frame["p_chance"])
        frame["above_chance"] = frame["p_chance_corrected"] < 1 - level
    if "unparseable" in frame:
        _check_unparseable(frame)
        frame["unparseable_share"] = frame["unparseable"] / frame["total"]
    frame["failures"] = [_failures(row, task) for row in frame.to_dict("records")]
    return frame


def _check_unparseable(frame: pd.DataFrame) -> None:
    counts = pd.to_numeric(frame["unparseable"], errors="coerce")
    wrong = ~(counts.between(0, frame["total"] - frame["correct"]) & np.isfinite(counts))
    if wrong.any():
        row = frame.loc[wrong].iloc[0]
        raise ThresholdError(
            f"{row['model']}: {row['unparseable']} unparseable beside {row['correct']:g} correct of {row['total']:g} "
            "answers is impossible; an answer that cannot be read is not correct"
        )


def _failures(row: dict[Any, Any], task: str) -> str:
    told = []
    if row.get("unparseable_share", 0.0) > MOST_UNPARSEABLE:
        told.append(f"{100 * row['unparseable_share']:.0f} % unparseable")
    if not row.get("above_chance", True):
        told.append("under chance" if row["p_chance"] > _SURELY_UNDER else "at chance")
    if _CONTRADICTION in str(row.get("task", task)) and row["correct"] == 0:
        told.append("proof by contradiction at 0 %")
    return "; ".join(told)
