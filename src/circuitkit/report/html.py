"""Templates, in which everything is text: prompts, tokens, responses and names are escaped wherever they stand."""

from __future__ import annotations

import base64
import math
import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from circuitkit.report.embedding import MOST_LETTERS, as_json, short
from circuitkit.report.section import Section, Still
from circuitkit.report.sentences import Line

_PLAIN = "\t\n\r"
_CONTROLS = {**{code: 0x2400 + code for code in range(0x20) if chr(code) not in _PLAIN}, 0x7F: 0x2421}
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode's categories of what is not seen: controls, marks of format, halves of letters, separators of lines."""
_BLANK = frozenset("\u115f\u1160\u3164\uffa0\ufffe\uffff")
"""Letters that have no shape, and what is no letter."""


def rendered(template: str, **told: Any) -> str:
    """A template of this package, filled."""
    return _environment().get_template(template).render(**told)


def visible(text: str) -> str:
    """A text of which every letter can be seen: control characters as their pictures, hidden marks by their numbers.

    So that none of them turns round, or hides, what stands beside it.

    >>> visible("a\\x00b\\u202ec")
    'a␀b⟨U+202E⟩c'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_seen, text.translate(_CONTROLS)))


def _seen(letter: str) -> str:
    hidden = letter in _BLANK or (unicodedata.category(letter) in _HIDDEN and letter not in _PLAIN)
    return f"⟨U+{ord(letter):04X}⟩" if hidden else letter


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("circuitkit.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
    )
    made.filters |= {"json": _data, "source": _source, "rows": rows, "inline": _inline, "line": _line}
    return made


def _data(section: Section) -> Markup:
    return Markup(as_json(section.data))  # as_json escapes


def _source(still: Still) -> str:
    return f"data:{still.media_type};base64,{base64.b64encode(still.image).decode()}"


def _line(line: Line) -> Markup:
    """A line of a study's text, with what Markdown makes bold or code of it; all else in it is text."""
    safe = str(escape(visible(line.text)))
    if line.markdown:
        safe = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", safe)
        safe = re.sub(r"`([^`]+)`", r"<code>\1</code>", safe)
    return Markup(safe)  # escaped above


def _inline(text: str) -> Markup:
    """A script or a stylesheet of this package."""
    if re.search("</(script|style)|<!--", text, re.IGNORECASE):
        raise AssertionError("the bundle holds what would end it early: build it anew")
    return Markup(text)  # this package's own


_EXACT = 2**53
"""Under which a float is as exact as a whole number."""


class Cell(NamedTuple):
    """A cell of a table.

    Attributes:
        text: what is shown.
        number: whether it is a number.
        whole: the number with all its digits, by which it sorts and copies, where not all are shown.
    """

    text: str
    number: bool
    whole: str | None = None


def rows(frame: pd.DataFrame) -> Iterator[list[Cell]]:
    """A table's cells as they are shown.

    >>> next(rows(pd.DataFrame({"share": [1 / 3], "of": ["x"]})))[0]
    Cell(text='0.33333', number=True, whole='0.3333333333333333')
    """
    kinds = [pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_bool_dtype(kind) for kind in frame.dtypes]
    for row in frame.itertuples(index=False, name=None):
        yield [_cell(value, number) for value, number in zip(row, kinds, strict=True)]


def _cell(value: Any, number: bool) -> Cell:
    if isinstance(value, float):
        if math.isnan(value):
            return Cell("", number)
        # A count is whole, and a float only where others of its column are missing.
        brief = int(value) if value.is_integer() and abs(value) < _EXACT else short(value)
        shown, whole = str(value if brief is None else brief), repr(float(value))
        return Cell(shown, number, None if float(shown) == value else whole)
    if value is None or value is pd.NA or value is pd.NaT:
        return Cell("", number)
    text = str(value)
    return Cell(text if len(text) <= MOST_LETTERS else f"{text[:MOST_LETTERS]}…", number)
