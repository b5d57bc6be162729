"""Results that no other section shows, as they draw themselves, and figures that nothing draws anew."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from circuitkit.report import sentences, stills
from circuitkit.report.contents import Contents, File
from circuitkit.report.kinds import READERS
from circuitkit.report.section import Section, Still
from circuitkit.report.sections.tables import thinned


def sections(contents: Contents) -> Iterator[Section]:
    """A section for each result that is left, and one for each figure that is left."""
    for file in contents.of_kind(*READERS):
        yield _of_result(file)
        contents.used(file.path)
    for file in contents.of_kind("figure"):
        yield Section(file.stem, file.title, stills=(stills.of_file(file.path, file.title),))
        contents.used(file.path)


def _of_result(file: File) -> Section:
    value = file.value
    table: pd.DataFrame | None = None
    notes: tuple[str, ...] = ()
    if isinstance(frame := getattr(value, "frame", None), pd.DataFrame):
        table, notes = thinned(frame, f"{file.path.name} (.frame)")
    picture = _picture(file, value)
    return Section(
        name=file.stem,
        title=file.title,
        stills=(picture,) if picture else (),
        table=table,
        notes=notes,
        says=sentences.of(value),
    )


def _picture(file: File, value: Any) -> Still | None:
    """What a result draws of itself; None of those that draw nothing without being told what."""
    if file.kind in ("cache", "manifest", "faithfulness", "completeness", "minimality", "sweep"):
        return None
    return stills.of_result(value, f"{file.kind.replace('_', ' ')}: {file.title}")
