"""AIME 2024 and 2025: thirty problems a year, whose answers are whole numbers from 0 to 999.

Sources: Mathematical Association of America (problems); lm-evaluation-harness, aime24 and aime25 (prompt and judge).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from circuitkit.tasks.competitions import competition, problem
from circuitkit.tasks.sources import HubData, Row, Rows, find
from circuitkit.tasks.task import Item, Task, TaskError

FILES = {2024: ("aime/test2024.jsonl",), 2025: ("aime/test2025-I.jsonl", "aime/test2025-II.jsonl")}
HUBS = {2024: HubData("Maxwell-Jia/AIME_2024", "train"), 2025: HubData("math-ai/aime25", "test")}
PROMPT = "Question: {problem}\nAnswer:"


def task(
    years: Sequence[int] = (2024, 2025),
    data: str | Path | None = None,
    prompt: str = PROMPT,
    judges: Sequence[str] | None = None,
) -> Task:
    r"""The problems of one year or both, thirty a year; told apart by "year", and by "part" where the data says it.

    Args:
        years: 2024, 2025 or both.
        data: a file with the problems of one year, or "hub"; the folder of data or the hub if None.
        prompt: what is asked; `ck.tasks.competitions.BOXED` asks for reasoning and a \boxed{} answer.
        judges: "robust", which reads any number and is the headline, and "harness", which wants \boxed{} or dollars.

    Raises:
        TaskError: a year is not there, the problems cannot be had, one has no answer, or math-verify is not installed.
    """
    if not years or not set(years) <= FILES.keys() or len(set(years)) < len(years):
        raise TaskError(f"aime has the years {' and '.join(map(str, FILES))}, and not {list(years)}")
    name = "aime" if len(years) > 1 else f"aime{years[0] % 100}"
    if data is not None and str(data) != "hub" and len(years) > 1:
        raise TaskError("a file of one's own has the problems of one year: load aime24 or aime25 with it")
    found = [find(name, FILES[year], [HUBS[year]], data) for year in years]
    items = [_item(name, year, row) for year, rows in zip(years, found, strict=True) for row in rows.rows]
    together = Rows((), " and ".join(rows.source for rows in found))
    return competition(name, together, items, prompt=prompt, judges=judges, numbers=True)


def _item(name: str, year: int, row: Row) -> Item:
    part, number = _place(row)
    key = "-".join(str(each) for each in (year, part, number) if each)
    groups = {"year": year} | ({"part": part} if part else {})
    return problem(name, row, key, ("problem", "Problem"), groups)


def _place(row: Row) -> tuple[str, str]:
    """The part of the contest, I or II, and the problem's number in it; no part where the data does not say it."""
    told = [str(row[field]) for field in ("url", "ID", "id") if field in row]
    for text in told:
        if found := re.search(r"AIME_(I{1,2})_Problems/Problem_(\d+)|(?:^|-)(I{1,2})-(\d+)$", text):
            return found[1] or found[3], found[2] or found[4]
    return "", told[-1] if told else str(row.number)
