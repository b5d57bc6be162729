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
# Answers in the order of the contest. No two of 2025 are alike, so an answer tells a problem's place where a data set,
# such as the hub's, numbers problems in its own way: keys are the same wherever the problems come from.
_ANSWERS = {
    2025: {
        "I": (70, 588, 16, 117, 279, 504, 821, 77, 62, 81, 259, 510, 204, 60, 735),
        "II": (468, 49, 82, 106, 336, 293, 237, 610, 149, 907, 113, 19, 248, 104, 240),
    }
}


def task(
    years: Sequence[int] = (2024, 2025),
    data: str | Path | None = None,
    prompt: str = PROMPT,
    judges: Sequence[str] | None = None,
) -> Task:
    r"""The problems of one year or both, thirty a year; told apart by "year", and by "part" of the contest, I or II.

    Keys are year, part and number, as in "2025-II-7", wherever the problems come from; a problem that is none of the
    contest's has the key that its data gives it, and no part.

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
    part, number = _told_place(row) or _place_of_answer(year, row) or ("", _own_number(row))
    key = "-".join(str(each) for each in (year, part, number) if each)
    groups = {"year": year} | ({"part": part} if part else {})
    return problem(name, row, key, ("problem", "Problem"), groups)


def _told_place(row: Row) -> tuple[str, str] | None:
    """The part of the contest, I or II, and the problem's number in it, where the data says them."""
    for field in ("url", "ID", "id"):
        text = str(row.get(field, ""))
        if found := re.search(r"AIME_(I{1,2})_Problems/Problem_(\d+)|(?:^|-)(I{1,2})-(\d+)$", text):
            return found[1] or found[3], found[2] or found[4]
    return None


def _place_of_answer(year: int, row: Row) -> tuple[str, str] | None:
    # Some data sets write degrees behind one of them.
    answer = re.match(r"\s*(\d+)", str(row.get("answer", row.get("Answer", ""))))
    for part, answers in _ANSWERS.get(year, {}).items():
        if answer and int(answer[1]) in answers:
            return part, str(answers.index(int(answer[1])) + 1)
    return None


def _own_number(row: Row) -> str:
    return next((str(row[field]) for field in ("id", "ID", "url") if field in row), str(row.number))
