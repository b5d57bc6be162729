"""A result as a cell of a notebook shows it: small, safe to commit, and all of it text.

No script, colour, path or time stands in it, so that it reads in every theme and changes where the result does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from circuitkit.report.html import rendered, rows, visible

if TYPE_CHECKING:
    from circuitkit.showing import Shown

MOST_ROWS, MOST_COLUMNS = 8, 12
_OF_A_TITLE, _OF_ALL_SENTENCES, _OF_A_ROW, _OF_A_NAME = 160, 2400, 480, 24
"""Letters: a whole cell is under 50 kB even where each of them is written with six bytes."""
_CHANGING = ("seconds", "time", "host")
"""Columns that are others each time, where the same is found."""
_PATH = re.compile(r"(?<![\w/.:<>])(?:[A-Za-z]:[\\/]|/)(?:[^\s/\\'\"<>]+[/\\])+([^\s/\\'\"<>,;:)\]]+)")


def shown(result: Shown) -> str:
    """A result's cell: what it is, what it says, its strongest rows, and what else there is of it."""
    return html(result._title(), result._says(), result._strongest(), tuple(_besides(result)))


def html(title: str, says: Sequence[str], table: pd.DataFrame | None = None, notes: Sequence[str] = ()) -> str:
    """A cell of a title, sentences, the first rows of a table, and notes.

    >>> html("A <b>", ["1 < 2"]).count("&lt;")
    2
    """
    told: dict[str, Any] = {"columns": (), "rows": ()}
    if table is not None and len(table.columns) and len(table):
        table = table.loc[:, [name not in _CHANGING for name in table]].dropna(axis="columns", how="all")
        notes = (*_cut(table), *notes)
        table = table.iloc[:MOST_ROWS, :MOST_COLUMNS]
        room = _OF_A_ROW // len(table.columns)
        told["columns"] = [text(str(name), _OF_A_NAME) for name in table]
        told["rows"] = [[cell._replace(text=text(cell.text, room)) for cell in row] for row in rows(table)]
    lines, room = [], _OF_ALL_SENTENCES
    for each in says:
        lines.append(text(each, room))
        if (room := room - len(lines[-1])) <= 0:
            break
    return rendered("notebook.html.jinja", title=text(title, _OF_A_TITLE), says=lines, notes=list(notes), **told)


def text(told: str, most: int = 10_000) -> str:
    """A text of which every letter can be seen, without the folders of this machine, and not longer than there is room.

    >>> text("of /home/me/models/gpt2, a/b", 99)
    'of …/gpt2, a/b'
    """
    plain = visible(_PATH.sub(lambda found: f"…/{found[1]}", told))
    return plain if len(plain) <= most else f"{plain[:most]}…"


def _cut(table: pd.DataFrame) -> Iterator[str]:
    n_rows, n_columns = table.shape
    if n_rows > MOST_ROWS:
        yield f"{MOST_ROWS} of {n_rows:,} rows"
    if n_columns > MOST_COLUMNS:
        yield f"{MOST_COLUMNS} of {n_columns} columns"


def _besides(result: Shown) -> Iterator[str]:
    """What else there is of a result, by the names of what it has."""
    kind = type(result)
    if isinstance(getattr(result, "frame", None), pd.DataFrame):
        yield ".frame is the whole table"
    if hasattr(kind, "plot"):
        yield ".plot() draws it"
    if hasattr(kind, "save"):
        yield ".save(path) keeps it"
