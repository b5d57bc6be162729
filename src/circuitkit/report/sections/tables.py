"""Tables that no result makes anew, and how long ones are thinned."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pandas as pd

from circuitkit.report.contents import Contents, File
from circuitkit.report.embedding import MOST_ROWS
from circuitkit.report.kinds import spoiled
from circuitkit.report.section import Section


def sections(contents: Contents) -> Iterator[Section]:
    """A section for each table that is left.

    Raises:
        ReportError: one is cut short.
    """
    for file in contents.of_kind("generated"):
        yield _of_texts(file)
        contents.used(file.path)
    for file in contents.of_kind("table"):
        try:
            frame = pd.read_csv(file.path)
        except pd.errors.EmptyDataError:
            frame = pd.DataFrame()
        except (ValueError, OSError) as error:
            raise spoiled(file.path, error) from error
        table, notes = thinned(frame, file.path.name)
        yield Section(file.stem, file.title, table=table, notes=notes)
        contents.used(file.path)


def _of_texts(file: File) -> Section:
    """What a model wrote on, without a change and with it."""
    told = json.loads(file.path.read_bytes())
    texts = pd.DataFrame({"which": list(told), "text": [str(text) for text in told.values()]})
    return Section(
        file.stem, file.title, "The prompt, and how it was written on without the change and with it.", table=texts
    )


def thinned(frame: pd.DataFrame, where: str, most: int = MOST_ROWS) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """A table's first rows, and a note of how many there are and where, if there are more.

    >>> thinned(pd.DataFrame({"a": range(3)}), "a.csv", 2)[1]
    ('The first 2 of 3 rows are shown; all are in a.csv.',)
    """
    if len(frame) <= most:
        return frame, ()
    return frame.head(most), (f"The first {most:,} of {len(frame):,} rows are shown; all are in {where}.",)
