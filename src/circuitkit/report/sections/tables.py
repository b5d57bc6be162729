"""Tables that no result makes anew, and how long ones are thinned."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice

import pandas as pd

from circuitkit.report.contents import Contents, File
from circuitkit.report.embedding import MOST_ROWS
from circuitkit.report.kinds import spoiled
from circuitkit.report.section import Section

_QUOTED = 120
"""Letters of a text that a sentence quotes."""

MOST_UNFOLDED = 3
"""How many tables that no picture goes with stand open on a page."""


def sections(contents: Contents) -> Iterator[Section]:
    """A section for each table and each text that is left; one that cannot be read is named on the page."""
    for file in contents.of_kind("generated"):
        yield _of_texts(file)
        contents.used(file.path)
    files = contents.of_kind("table")
    # Many would be a wall before what is worth a look; a folder of tables alone has nothing else.
    others = any(file.kind not in ("table", "text", "provenance") for file in contents.files)
    group = "Tables" if others and len(files) > MOST_UNFOLDED else ""
    for file in files:
        if (frame := contents.table_of(file)) is None:
            continue
        table, notes = thinned(frame, file.path.name)
        yield Section(file.stem, file.title, table=table, notes=notes, group=group)
        contents.used(file.path)
    for file in contents.of_kind("text"):
        yield from _of_lines(contents, file)


def _of_lines(contents: Contents, file: File) -> Iterator[Section]:
    """A text that somebody laid into the folder: its first lines."""
    try:
        with file.path.open(encoding="utf-8", errors="replace") as text:
            lines = [line.rstrip("\n") for line in islice(text, MOST_ROWS + 1)]
    except OSError as error:
        contents.cannot_read(file, spoiled(file.path, error))
        return
    notes = (f"The first {MOST_ROWS} lines are shown; all are in {file.path.name}.",) if len(lines) > MOST_ROWS else ()
    yield Section(
        file.stem,
        file.path.name,
        "A text of the folder, which no command of circuitkit wrote as what it found.",
        table=pd.DataFrame({"line": lines[:MOST_ROWS]}),
        notes=notes,
    )
    contents.used(file.path)


def _of_texts(file: File) -> Section:
    """What a model wrote on, without a change and with it."""
    told = json.loads(file.path.read_bytes())
    texts = pd.DataFrame({"which": list(told), "text": [str(text) for text in told.values()]})
    before, after = (str(told[which]).strip() for which in ("unchanged", "changed"))
    same = "With the change the model writes on as it does without."
    other = f"With the change the model writes on otherwise: {_start(after)}, where it writes {_start(before)} without."
    return Section(
        file.stem,
        "What was written on",
        "The prompt, and how it was written on without the change and with it: one text, and no sampling.",
        table=texts,
        says=(same if before == after else other,),
    )


def _start(text: str) -> str:
    plain = " ".join(text.split())
    if not plain:
        return "nothing"
    return f"“{plain}”" if len(plain) <= _QUOTED else f"“{plain[:_QUOTED]}…”"


def thinned(frame: pd.DataFrame, where: str, most: int = MOST_ROWS) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """A table's first rows, and a note of how many there are and where, if there are more.

    >>> thinned(pd.DataFrame({"a": range(3)}), "a.csv", 2)[1]
    ('The first 2 of 3 rows are shown; all are in a.csv.',)
    """
    kept = frame.head(most)
    kept.attrs["whole"] = (len(frame), where)
    return kept, _cut(len(kept), len(frame), where)


def of_fewer(table: pd.DataFrame, most: int) -> tuple[pd.DataFrame, tuple[str, ...], tuple[str, ...]]:
    """A table that `thinned` made with fewer rows yet, the note that it had, and the one that it has now."""
    n, where = table.attrs.get("whole", (len(table), "the files themselves"))
    return table.head(most), _cut(len(table), n, where), _cut(min(most, len(table)), n, where)


def _cut(shown: int, n: int, where: str) -> tuple[str, ...]:
    return (f"The first {shown:,} of {n:,} rows are shown; all are in {where}.",) if shown < n else ()
