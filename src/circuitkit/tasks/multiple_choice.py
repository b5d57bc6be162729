"""Questions with choices in data of one's own: how the choices are listed, and which letter is right."""

from __future__ import annotations

from collections.abc import Mapping
from string import ascii_lowercase
from typing import Any

from circuitkit.tasks.sources import Row
from circuitkit.tasks.task import TaskError
from circuitkit.tasks.templates import filled


def offered(row: Row, field: str) -> dict[str, str]:
    """The choices that a row has in a field, by letter: a list of texts, of {label, text}s, or a table of both lists.

    Raises:
        TaskError: there is no such list; the row is named.

    >>> offered(Row("a.jsonl, line 1", 0, {"choices": ["grass", "sky"]}), "choices")
    {'a': 'grass', 'b': 'sky'}
    """
    held: Any = row[field]
    if isinstance(held, dict) and {"label", "text"} <= held.keys() and len(held["label"]) == len(held["text"]):
        held = [{"label": label, "text": text} for label, text in zip(held["label"], held["text"], strict=True)]
    if not isinstance(held, list) or not 0 < len(held) <= len(ascii_lowercase):
        raise TaskError(f"{row.place}: the field {field!r} holds no list of up to 26 choices, but {held!r:.60}")
    found = {}
    for letter, choice in zip(ascii_lowercase, held, strict=False):
        label, text = (
            (choice.get("label", letter), choice.get("text")) if isinstance(choice, dict) else (letter, choice)
        )
        if text is None:
            raise TaskError(f"{row.place}: a choice in {field!r} has no text: {choice!r:.60}")
        found[str(label).lower()] = str(text)
    return found


def listed(choices: Mapping[str, str], each: str, row: Row) -> str:
    r"""The choices as a prompt lists them, each written by a template with {letter} or {LETTER} and {text}.

    >>> listed({"a": "grass", "b": "sky"}, "({letter}) {text}\n", Row("a.jsonl, line 1", 0, {}))
    '(a) grass\n(b) sky\n'
    """
    made = [{"letter": letter, "LETTER": letter.upper(), "text": text} for letter, text in choices.items()]
    return "".join(filled(each, row, {}, one) for one in made)


def letter_of(gold: str, kind: str, choices: Mapping[str, str], row: Row) -> str:
    """The letter of the right choice, of which the gold is the "letter", the "index" (from 0) or the "text".

    Raises:
        TaskError: it is that of no choice; the row is named.

    >>> letter_of("1", "index", {"a": "grass", "b": "sky"}, Row("a.jsonl, line 1", 0, {}))
    'b'
    """
    by_kind = {
        "letter": {letter: letter for letter in choices},
        "index": {str(number): letter for number, letter in enumerate(choices)},
        "text": {text: letter for letter, text in choices.items()},
    }
    if kind not in by_kind:
        raise TaskError(f'in [choices], gold is "letter", "index" or "text", and is {kind!r}')
    known = by_kind[kind]
    letter = known.get(gold.lower() if kind == "letter" else gold)
    if letter is None:
        raise TaskError(f"{row.place}: gold {gold!r} is the {kind} of no choice; there are {', '.join(known)}")
    return letter
