"""Sections of one kind as one card, in which one of them is chosen: a card each would be a wall."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from os.path import commonpath
from typing import Any, TypedDict

import pandas as pd

from circuitkit.report.contents import Contents, File
from circuitkit.report.embedding import MOST_ROWS
from circuitkit.report.section import Section
from circuitkit.report.sections.tables import of_fewer


class ChoiceData(TypedDict):
    """What the front end's view of choices shows (`frontend/src/views/choice.ts`): each with the view that draws it.

    A choice's `caption` is what holds of it and not of all; None where there is nothing.
    """

    label: str
    choices: list[dict[str, Any]]


def of_several(each: Mapping[str, Section], label: str, *, name: str, title: str) -> Section:
    """One card of several by what each is called, with a choice of one; the only one as it is.

    Their tables stand under each other, with a column that says whose a row is, and so do notes and sentences.
    """
    if len(each) == 1:
        return next(iter(each.values()))
    each = _with_fewer_rows(each)
    caption, captions = _captions(each)
    choices = [
        {"name": called, "title": one.title, "view": one.view, "data": one.data, "caption": captions[called]}
        for called, one in each.items()
        if one.view is not None
    ]
    tables = {called: one.table for called, one in each.items() if one.table is not None}
    table: pd.DataFrame | None = None
    if tables:
        table = pd.concat(tables, names=[label.lower()]).reset_index(level=0).reset_index(drop=True)
    if choices:
        caption = f"{caption} There are {len(each)}: choose one above the picture.".strip()
    data: ChoiceData = {"label": label, "choices": choices}
    return Section(
        name,
        title,
        caption,
        view="choice" if choices else None,
        data=dict(data) if choices else None,
        stills=tuple(
            replace(still, alt=f"{called}: {still.alt}") for called, one in each.items() for still in one.stills
        ),
        table=table,
        notes=tuple(dict.fromkeys(_told(each, "notes"))),
        says=tuple(_told(each, "says")),
    )


def names_of(files: Sequence[tuple[Contents, File]], contents: Contents) -> list[str]:
    """What files of a folder and of those in it are called: by their titles, or by their folders where those are alike.

    Folders are told from the page's on.
    """
    titles = [file.title for _, file in files]
    if len(set(titles)) == len(titles):
        return titles
    folders = [part.name.removeprefix(contents.name).strip("/") or "." for part, _ in files]
    shared = commonpath(folders) if len(folders) > 1 and "." not in folders else ""
    named = [folder.removeprefix(shared).strip("/") or folder for folder in folders]
    if len(set(named)) == len(named):
        return named
    return [f"{folder}: {title}" for folder, title in zip(named, titles, strict=True)]


def _with_fewer_rows(each: Mapping[str, Section]) -> dict[str, Section]:
    """The same with tables that together have as many rows as one may, none of which crowds out another."""
    room, most = MOST_ROWS, MOST_ROWS
    lengths = sorted(len(one.table) for one in each.values() if one.table is not None)
    for at, length in enumerate(lengths):
        # What short tables leave is the others'.
        if length > (most := max(1, room // (len(lengths) - at))):
            break
        room -= length
    return {called: _cut(one, most) for called, one in each.items()}


def _cut(section: Section, most: int) -> Section:
    if section.table is None or len(section.table) <= most:
        return section
    table, before, now = of_fewer(section.table, most)
    return replace(section, table=table, notes=(*(note for note in section.notes if note not in before), *now))


def _captions(each: Mapping[str, Section]) -> tuple[str, dict[str, str | None]]:
    """The sentences of captions that all have, and those that hold of one."""
    found = {called: re.split(r"(?<=\.) ", one.caption) for called, one in each.items()}
    alike = [line for line in next(iter(found.values())) if all(line in lines for lines in found.values())]
    own = {called: " ".join(line for line in lines if line not in alike) for called, lines in found.items()}
    return " ".join(alike), {called: told or None for called, told in own.items()}


def _told(each: Mapping[str, Section], what: str) -> list[str]:
    """Sentences of each, those that all say once, the others with whose they are."""
    found = {called: list(getattr(one, what)) for called, one in each.items()}
    alike = [line for line in next(iter(found.values())) if all(line in lines for lines in found.values())]
    return [
        *alike,
        *(f"{called}: {line}" for called, lines in found.items() for line in lines if line not in alike),
    ]
