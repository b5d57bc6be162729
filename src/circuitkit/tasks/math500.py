"""MATH-500: competition problems of seven subjects and five levels, whose answers are expressions.

Sources: Hendrycks et al. 2021, arXiv 2103.03874 (problems); Lightman et al. 2023, arXiv 2305.20050 (the 500).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from circuitkit.tasks.competitions import competition, problem
from circuitkit.tasks.sources import HubData, Row, find
from circuitkit.tasks.task import Item, Task

FILE = "math500/test.jsonl"
HUB = HubData("HuggingFaceH4/MATH-500", "test")
PROMPT = "Problem: {problem}\nAnswer:"


def task(data: str | Path | None = None, prompt: str = PROMPT, judges: Sequence[str] | None = None) -> Task:
    r"""The 500 problems, told apart by "subject" and "level".

    Args:
        data: a file of objects with `problem`, `answer`, `subject`, `level` and `unique_id`, or "hub";
            `math500/test.jsonl` in the folder of data or the hub if None.
        prompt: what is asked; `ck.tasks.competitions.BOXED` asks for reasoning and a \boxed{} answer.
        judges: "robust", which compares what expressions are worth and is the headline, and "harness", which compares
            strings and wants dollars around the answer, or nothing but the answer.

    Raises:
        TaskError: the problems cannot be had, one has no answer, or math-verify is not installed.
    """
    found = find("math500", [FILE], [HUB], data)
    return competition("math500", found, list(map(_item, found.rows)), prompt=prompt, judges=judges, numbers=False)


def _item(row: Row) -> Item:
    key = str(row.get("unique_id", row.number))
    groups = {name: row[name] for name in ("subject", "level") if name in row}
    return problem("math500", row, key, ("problem",), groups)
