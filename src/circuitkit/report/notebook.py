"""A result as a cell of a notebook shows it: small, safe to commit, and all of it text.

No script, path or time stands in it, and no colour of one theme: it reads in every theme, and changes where the result
does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from circuitkit.report.html import Cell, rendered, rows, visible
from circuitkit.showing import without_folders

if TYPE_CHECKING:
    from circuitkit.showing import Shown

MOST_ROWS, MOST_COLUMNS = 8, 12
_DIGITS = 4
"""Significant digits of numbers: the table itself has them all."""
_OF_A_TITLE, _OF_ALL_SENTENCES, _OF_A_ROW, _OF_A_NAME = 160, 2400, 480, 24
"""Letters: a whole cell is under 50 kB even where each of them is written with six bytes."""
_CHANGING = ("seconds", "time", "host")
"""Columns that are others each time, where the same is found."""
_PLACES = ("layer", "head")
"""Columns in which -1 is none."""


def shown(result: Shown) -> str:
    """A result's cell: what it is, what it says, its strongest rows, and what else there is of it."""
    title, table = result._title(), result._strongest()
    return html(title, _without(title, result._says()), table, tuple(_besides(result, table)))


def plain(result: Shown) -> str:
    """The same where there is no HTML: its line, and what it says beyond that."""
    line = repr(result)
    said = [] if "__str__" in vars(type(result)) else [each for each in result._says() if each != line]
    return text("\n".join([line, *said]))


def html(title: str, says: Sequence[str], table: pd.DataFrame | None = None, notes: Sequence[str] = ()) -> str:
    """A cell of a title, sentences, the first rows of a table, and notes.

    >>> html("A <b>", ["1 < 2"]).count("&lt;")
    2
    """
    told: dict[str, Any] = {"columns": (), "rows": ()}
    if table is not None:
        kept = [name not in _CHANGING and not str(name).startswith("sha256") for name in table]
        table = table.loc[:, kept].dropna(axis="columns", how="all")
    if table is not None and len(table.columns) and len(table):
        notes = (*_cut(table), *notes)
        table = table.iloc[:MOST_ROWS, :MOST_COLUMNS].apply(_told)
        room = _OF_A_ROW // len(table.columns)
        told["rows"] = [[cell._replace(text=text(_brief(cell), room)) for cell in row] for row in rows(table)]
        numbers = (cell.number for cell in told["rows"][0])
        told["columns"] = [
            Cell(text(str(name), _OF_A_NAME), number) for name, number in zip(table, numbers, strict=True)
        ]
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
    plain = visible(without_folders(told))
    return plain if len(plain) <= most else f"{plain[:most]}…"


def _cut(table: pd.DataFrame) -> Iterator[str]:
    n_rows, n_columns = table.shape
    if n_rows > MOST_ROWS:
        yield f"{MOST_ROWS} of {n_rows:,} rows"
    if n_columns > MOST_COLUMNS:
        yield f"{MOST_COLUMNS} of {n_columns} columns"


def _told(column: pd.Series[Any]) -> pd.Series[Any]:
    """A column as it is read: no place where there is none, and what a cell has several of, one after the other."""
    if column.name in _PLACES:
        return column.mask(column.astype(object) == -1)
    if column.dtype == object:
        return column.map(lambda value: ", ".join(map(str, value)) if isinstance(value, tuple | list) else value)
    return column


def _brief(cell: Cell) -> str:
    """A cell's text, a number that has many digits with the first of them."""
    if cell.whole is None:
        return cell.text
    number = float(f"{float(cell.whole):.{_DIGITS}g}")
    return str(int(number) if number.is_integer() and abs(number) < 1e15 else number)


def _without(title: str, says: Sequence[str]) -> list[str]:
    """What is said, without the name that stands in the title already."""
    told = list(says)
    name = f"{title.partition(': ')[2]}: "
    if told and len(name) > 2 and told[0].startswith(name):
        rest = told[0].removeprefix(name)
        told[0] = rest[:1].upper() + rest[1:]
    return told


def _besides(result: Shown, table: pd.DataFrame | None) -> Iterator[str]:
    """What ends of intervals are, and what else there is of a result, by the names of what it has."""
    kind = type(result)
    level = vars(result).get("level", 0.95 if kind.__module__.startswith("circuitkit.") else None)
    # What a class of the user's own calls low and high may be anything.
    if table is not None and {"low", "high"} <= set(table.columns) and isinstance(level, float):
        yield f"low to high: {100 * level:g} % interval"
    if isinstance(getattr(result, "frame", None), pd.DataFrame):
        yield ".frame is the whole table"
    if hasattr(kind, "plot"):
        yield ".plot() draws it"
    if hasattr(kind, "save"):
        yield ".save(path) keeps it"
