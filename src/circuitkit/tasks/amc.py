"""AMC 12 of 2023: forty problems whose answers are numbers, without the choices that the contest gave.

Sources: Mathematical Association of America (problems), as collected in math-ai/amc23.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from circuitkit.tasks.competitions import competition, problem
from circuitkit.tasks.sources import HubData, find
from circuitkit.tasks.task import Task

FILE = "amc/amc23.jsonl"
HUB = HubData("math-ai/amc23", "test")
PROMPT = "Question: {problem}\nAnswer:"


def task(data: str | Path | None = None, prompt: str = PROMPT, judges: Sequence[str] | None = None) -> Task:
    r"""The problems of AMC 12, 2023.

    Args:
        data: a file of objects with `question`, `answer` and `id`, or "hub"; `amc/amc23.jsonl` in the folder of data
            or the hub if None.
        prompt: what is asked; `ck.tasks.competitions.BOXED` asks for reasoning and a \boxed{} answer.
        judges: "robust", which reads any number and is the headline, and "harness", which wants \boxed{} or dollars.

    Raises:
        TaskError: the problems cannot be had, one has no answer, or math-verify is not installed.
    """
    found = find("amc", [FILE], [HUB], data)
    items = [problem("amc", row, str(row.get("id", row.number)), ("question", "problem"), {}) for row in found.rows]
    return competition("amc", found, items, prompt=prompt, judges=judges, numbers=True)
