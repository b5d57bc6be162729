"""Texts with fields in braces, filled from a row of data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from circuitkit.tasks.sources import Row
from circuitkit.tasks.task import TaskError

_SLOT = re.compile(r"\{\{|\}\}|\{([A-Za-z_][\w.]*)\}")


def filled(template: str, row: Row, names: Mapping[str, str], made: Mapping[str, str] | None = None) -> str:
    r"""A template with each {field} replaced by the row's; {{ and }} are braces, and so is a lone one.

    Args:
        template: the text; "{question.stem}" reaches into a field, and "{choices.0}" into a list.
        row: the row.
        names: what the row calls a field that the template calls otherwise.
        made: fields that the row does not have.

    Raises:
        TaskError: the row lacks a field, or what it holds there is no text or number; row and field are named.

    >>> filled("Q: {ask}\nA: \\boxed{}", Row("a.csv, row 1", 0, {"question": "1 + 1"}), {"ask": "question"})
    'Q: 1 + 1\nA: \\boxed{}'
    """

    def value(found: re.Match[str]) -> str:
        name = found[1]
        if name is None:
            return found[0][0]
        if made is not None and name in made:
            return made[name]
        return text_of(row, names.get(name, name))

    return _SLOT.sub(value, template)


def fields(template: str) -> list[str]:
    """The fields that a template names, in their order.

    >>> fields("Q: {question} ({level})")
    ['question', 'level']
    """
    return [name for name in _SLOT.findall(template) if name]


def text_of(row: Row, field: str) -> str:
    """What a row holds in a field, as text.

    Raises:
        TaskError: there is no such field, or it is empty, or holds no text or number.
    """
    held: Any = row[field]
    if isinstance(held, str | int | float):
        return str(held)
    if held is None:
        raise TaskError(f"{row.place}: the field {field!r} is empty")
    raise TaskError(
        f"{row.place}: the field {field!r} holds a {type(held).__name__}, and no text or number: name a part of it, "
        f"such as {field}.{next(iter(held), 0) if isinstance(held, dict) else 0}, or write it with [choices]"
    )
