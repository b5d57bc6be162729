"""Levels of responses, condition by condition, with responses behind each count and what was measured in them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypedDict

from circuitkit import statistics
from circuitkit.report import sentences, stills
from circuitkit.report.contents import Contents
from circuitkit.report.embedding import MOST_OF_A_VIEW, as_json
from circuitkit.report.section import Section
from circuitkit.report.sections.kept_items import cut
from circuitkit.report.sections.tables import thinned
from circuitkit.sfn.response_levels.criterion import LEVELS
from circuitkit.sfn.response_levels.level_table import LevelTable
from circuitkit.sfn.response_levels.outcome import Graded, Levels

MOST_BYTES = 600_000
"""Of all responses of a section."""


class Count(TypedDict):
    """How many responses of a row are of a level, and their share with its interval."""

    n: int
    share: float
    low: float
    high: float


class Row(TypedDict):
    """A condition: its values, and its counts from level I to IV."""

    told: Sequence[str | int | None]
    counts: list[Count]


class LevelledData(TypedDict):
    """A response with its level and what was measured; `row` and `level` say behind which count it stands."""

    row: int
    level: int
    key: str
    question: str
    text: str
    reason: str
    by: str
    criterion: str
    right: bool | None
    on_task: float
    evidence: Mapping[str, float | int]


class LevelsData(TypedDict):
    """What the front end's view of levels shows (`frontend/src/views/levels.ts`)."""

    groups: Sequence[str]
    rows: list[Row]
    responses: list[LevelledData]


def sections(contents: Contents) -> Iterator[Section]:
    """A section for each file of levels, and for each table of levels."""
    for file in contents.of_kind("levels"):
        yield _of_levels(file.value, file.stem, file.title)
        contents.used(file.path)
    for file in contents.of_kind("level_table"):
        yield _of_table(file.value, file.stem)
        contents.used(file.path)


def _of_levels(found: Levels, name: str, title: str) -> Section:
    groups = found.groups
    behind: dict[tuple[Any, ...], list[Graded]] = defaultdict(list)
    for each in found.graded:
        behind[tuple(each.answer.groups.get(group) for group in groups)].append(each)
    rows = [_row(told, [sum(e.level == level for e in graded) for level in LEVELS]) for told, graded in behind.items()]
    data, notes = _data(groups, rows, list(behind.values()))
    table, cut_rows = thinned(found.by(*groups), f"{name}.json (.by)")
    return _section(
        name,
        f"{title} of {found.model}'s responses" if found.model else title,
        data,
        notes=(*notes, *cut_rows),
        stills=(stills.of_result(found, f"Shares of the levels of {found.model}'s responses"),),
        table=table,
        says=sentences.of(found),
    )


def _of_table(found: LevelTable, name: str) -> Section:
    rows = [_row(tuple(each.told.values()), [each.counts[level] for level in LEVELS]) for each in found.conditions]
    data, notes = _data(found.groups, rows, [each.kept for each in found.conditions])
    table, cut_rows = thinned(found.frame, f"{name}.json (.frame)")
    return _section(name, found.title, data, notes=(*notes, *cut_rows), table=table)


def _section(name: str, title: str, data: LevelsData, **more: Any) -> Section:
    return Section(
        name,
        title,
        "Levels: I nonsense, II off the task, III on the task and not right, IV right. A number counts the responses "
        "of a level; click it, or press Enter on it, for responses behind it and what was measured in them. Bars are "
        "shares.",
        view="levels",
        data=dict(data),
        **more,
    )


def _row(told: Sequence[Any], counts: Sequence[int]) -> Row:
    n = sum(counts)
    found: list[Count] = []
    for each in counts:
        low, high = statistics.wilson(each, n) if n else (math.nan, math.nan)
        # Wilson's lower end of none is nothing but for rounding.
        low = 0.0 if each == 0 and n else low
        found.append({"n": each, "share": each / n if n else math.nan, "low": low, "high": high})
    return {"told": list(told), "counts": found}


def _data(groups: Sequence[str], rows: list[Row], behind: Sequence[Sequence[Graded]]) -> tuple[LevelsData, list[str]]:
    """Rows with responses, one behind each count after the other, as long as there is room."""
    waiting = [
        [_levelled(row, each) for each in graded if each.level == level]
        for row, graded in enumerate(behind)
        for level in LEVELS
    ]
    kept: list[LevelledData] = []
    left = min(MOST_BYTES, MOST_OF_A_VIEW)
    for turn in range(max(map(len, waiting), default=0)):
        for each in waiting:
            if turn < len(each) and left > 0:
                left -= len(as_json(each[turn]).encode())
                if left > 0:
                    kept.append(each[turn])
    n = sum(count["n"] for row in rows for count in row["counts"])
    notes = []
    if len(kept) < n:
        notes.append(f"Of {n:,} responses {len(kept):,} are in the page, some behind each count; counts are of all.")
    return {"groups": list(groups), "rows": rows, "responses": kept}, notes


def _levelled(row: int, each: Graded) -> LevelledData:
    over = each.overruling
    answer = each.answer
    return {
        "row": row,
        "level": LEVELS.index(each.level),
        "key": answer.key,
        "question": cut(answer.question),
        "text": cut(answer.text),
        "reason": each.reason if over is None else over.why,
        "by": "the criterion" if over is None else over.who,
        "criterion": each.criterion,
        "right": answer.right,
        "on_task": each.on_task,
        "evidence": asdict(each.evidence),
    }
