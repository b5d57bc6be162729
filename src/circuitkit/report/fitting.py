"""A page that is too large is thinned until it fits, and says what was left out."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from circuitkit.report.embedding import as_json
from circuitkit.report.section import Section, Still

if TYPE_CHECKING:
    from circuitkit.report.page import Part


def fitted(parts: Sequence[Part], most: int) -> tuple[Part, ...]:
    """Parts whose sections take so many bytes at the most: the largest are thinned first, step by step.

    PNG files get fewer colours, long tables fewer rows; then pictures that a view shows better are left out, then
    other pictures, and at last what views draw. Each section says so.
    """
    sections = {(i, j): each for i, part in enumerate(parts) for j, each in enumerate(part.sections)}
    sizes = {at: size(each) for at, each in sections.items()}
    for thin in (_fewer_colours, _fewer_rows, _no_still_of_a_view, _no_stills, _no_data, _no_table):
        for at in sorted(sizes, key=lambda at: (-sizes[at], at)):
            if sum(sizes.values()) <= most:
                break
            sections[at] = thin(sections[at])
            sizes[at] = size(sections[at])
    return tuple(
        replace(part, sections=tuple(sections[i, j] for j in range(len(part.sections)))) for i, part in enumerate(parts)
    )


def size(section: Section) -> int:
    """About how many bytes a section takes in the page."""
    stills = sum(4 * len(still.image) // 3 for still in section.stills)
    data = 0 if section.data is None else len(as_json(section.data).encode())
    table = 0 if section.table is None else len(section.table.to_html(max_rows=None, border=0))
    return stills + data + table


def _fewer_colours(section: Section) -> Section:
    return replace(section, stills=tuple(map(_quantised, section.stills)))


def _quantised(still: Still) -> Still:
    if still.media_type != "image/png":
        return still
    from PIL import Image

    with Image.open(io.BytesIO(still.image)) as image:
        written = io.BytesIO()
        image.convert("RGB").quantize(128).save(written, format="PNG", optimize=True)
    return replace(still, image=min(still.image, written.getvalue(), key=len))


def _fewer_rows(section: Section) -> Section:
    if section.table is None or len(section.table) <= 25:
        return section
    note = f"Of the table's rows the first 25 of {len(section.table)} are left, to keep the page small."
    return replace(section, table=section.table.head(25), notes=(*section.notes, note))


def _no_still_of_a_view(section: Section) -> Section:
    return _without(section, "stills", lambda: section.view is not None and bool(section.stills))


def _no_stills(section: Section) -> Section:
    return _without(section, "stills", lambda: bool(section.stills))


def _no_data(section: Section) -> Section:
    return _without(section, "data", lambda: section.data is not None)


def _no_table(section: Section) -> Section:
    return _without(section, "table", lambda: section.table is not None)


_CALLED = {"stills": "Its still picture", "data": "What could be touched here", "table": "Its table"}


def _without(section: Section, what: str, there: Callable[[], bool]) -> Section:
    if not there():
        return section
    note = f"{_CALLED[what]} is left out, to keep the page small: make a report of fewer results to see it."
    notes = (*section.notes, note)
    if what == "stills":
        return replace(section, stills=(), notes=notes)
    if what == "data":
        return replace(section, view=None, data=None, notes=notes)
    return replace(section, table=None, notes=notes)
