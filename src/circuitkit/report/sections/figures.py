"""Results that no other section shows, as they draw themselves, and figures that nothing draws anew."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pandas as pd

from circuitkit.report import sentences, stills
from circuitkit.report.contents import Contents, File
from circuitkit.report.errors import ReportError
from circuitkit.report.kinds import READERS
from circuitkit.report.section import Section, Still
from circuitkit.report.sections.tables import thinned

_DRAWN_IN_PART = frozenset({"attention"})
"""Kinds that draw what they are told to, of many things."""


def sections(contents: Contents) -> Iterator[Section]:
    """A section for each result that is left, and one for each figure that is left."""
    for file in contents.of_kind(*READERS):
        yield _of_result(file)
        contents.used(file.path)
    figures: dict[str, list[File]] = defaultdict(list)
    for file in contents.of_kind("figure"):
        figures[file.stem].append(file)
    for same in figures.values():
        # A figure is written as PNG and as SVG: the SVG is the sharper and, with its text, the more readable one.
        for file in sorted(same, key=lambda each: each.path.suffix, reverse=True):
            try:
                still = stills.of_file(file.path, f"{file.title} ({file.path.name})")
            except ReportError as error:
                contents.cannot_read(file, error)
                continue
            yield Section(file.stem, file.title, stills=(still,))
            break
        contents.used(*(file.path for file in same))


def _of_result(file: File) -> Section:
    value = file.value
    table: pd.DataFrame | None = None
    notes: tuple[str, ...] = ()
    if isinstance(frame := getattr(value, "frame", None), pd.DataFrame):
        table, notes = thinned(frame, f"{file.path.name} (.frame)")
    picture, why = _picture(file, value)
    says = sentences.of(value)
    if picture is None and table is None and not says:
        why = f"{file.path.name} holds a {file.kind.replace('_', ' ')}, of which nothing is shown here."
    notes = (*notes, why) if why else notes
    title = file.title
    if file.kind == "gold_scores":
        title = f"Gold scores, {file.stem.removeprefix('gold-').replace('_', ' ')}"
    return Section(file.stem, title, stills=(picture,) if picture else (), table=table, notes=notes, says=says)


def _picture(file: File, value: Any) -> tuple[Still | None, str]:
    """What a result draws of itself, or why it cannot; neither of those that have no picture."""
    if not hasattr(value, "plot") or file.kind in _DRAWN_IN_PART:
        return None, ""
    try:
        return stills.of_result(value, f"{file.kind.replace('_', ' ')}: {file.title}"), ""
    except ValueError as error:
        return None, f"It is not drawn: {error}."
