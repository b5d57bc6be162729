"""Evaluations as rows of the table that a threshold is looked for in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from circuitkit.evaluation import Evaluation


def rows_of(
    evaluation: Evaluation, *, family: str, parameters: int, by: Sequence[str] = (), judge: str | None = None
) -> pd.DataFrame:
    """Count a model's answers as `find` takes them: a row for each combination of groups, or one row.

    Columns: `model`, `family`, `parameters`, `task`, `decoding`, `shots`, the groups, `correct` by the judge (the
    headline's, if none is named), `total`, `unparseable` and `truncated` (counts), and each judge's own count.

    >>> task = ck.tasks.load("prontoqa/conjunction_elimination/1", n=3, shots=0)
    >>> answers = ck.evaluate(ck.load("deductor-5k"), task, progress=False)
    >>> rows_of(answers, family="deductor", parameters=5_232, by=["hops"])[["model", "hops", "total"]].values.tolist()
    [['deductor-5k', 1, 3]]
    """
    frame = evaluation.frame
    headline = judge or evaluation.judges[0]
    counted = [*evaluation.judges, "unparseable", "truncated"]
    groups = frame.groupby(list(by), sort=False) if by else [((), frame)]
    rows: list[dict[str, Any]] = []
    for values, part in groups:
        row: dict[str, Any] = {"model": evaluation.model, "family": family, "parameters": parameters}
        row |= {"task": evaluation.task, "decoding": evaluation.decoding, "shots": evaluation.shots}
        row |= dict(zip(by, values, strict=True))
        row |= {"correct": int(part[headline].sum()), "total": len(part)}
        rows.append(row | {name: int(part[name].sum()) for name in counted})
    return pd.DataFrame(rows)
