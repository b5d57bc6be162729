"""Spans as words of a command line: NAME=TEXT, NAME=role:rule[0], NAME=speech:concept, NAME=at:-1."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from circuitkit.spans import Span

_WAYS = ("text", "role", "speech", "at")
_COUNTED = re.compile(r"(?P<what>.+?)\[(?P<which>-?\d+|all)\]")


def spans_of(words: Sequence[str]) -> dict[str, Span]:
    """Spans by name, each written NAME=RULE; see `span_of` for the rule.

    Raises:
        SpanError: a span has no name, a name is given twice, or a rule cannot be read.

    >>> spans_of(["rule=Every wumpus is a dumpus", "last=at:-1"])
    {'rule': Span('Every wumpus is a dumpus' [0]), 'last': Span(-1)}
    """
    from circuitkit.spans import SpanError

    spans: dict[str, Span] = {}
    for word in words:
        name, equals, rule = word.partition("=")
        if not (equals and name.strip() and rule.strip()):
            raise SpanError(f"a span is written NAME=TEXT, such as rule='Every wumpus is a dumpus', not {word!r}")
        if re.fullmatch(r"-?\d+|each|all", name):
            raise SpanError(f"a span cannot be called {name!r}, which names positions: give it a word of its own")
        if name in spans:
            raise SpanError(f"two spans are called {name!r}: give each its own name")
        spans[name] = span_of(rule)
    return spans


def span_of(rule: str) -> Span:
    """A span by its text, role, part of speech or position.

    TEXT is the first occurrence of those words; text:TEXT[-1] the last, text:TEXT[all] all of them. role:rule is all
    that plays a role, role:rule[0] the first. speech:concept is all words of a class, speech:concept[0] the first.
    at:0,-1 are positions. "speech:concept in role:rule[0]" is what of the one lies within the other.

    Raises:
        SpanError: the rule cannot be read.

    >>> span_of("speech:concept in role:rule[0]")
    Span(concept in rule [0])
    """
    from circuitkit.spans import Span, SpanError

    way, colon, rest = rule.partition(":")
    if not colon or way not in _WAYS:
        return Span.of_text(rule)
    if way == "at":
        if not re.fullmatch(r"-?\d+(,-?\d+)*", rest):
            raise SpanError(f"positions are written at:0,-1, not {rule!r}")
        return Span.at(*map(int, rest.split(",")))
    inner, *outer = re.split(r" in (?=(?:text|role|speech):)", rest, maxsplit=1)
    if outer:
        return span_of(f"{way}:{inner}").within(span_of(outer[0]))
    counted = _COUNTED.fullmatch(rest)
    what = counted["what"] if counted else rest
    which = None if counted is None or counted["which"] == "all" else int(counted["which"])
    if way == "text":
        return Span.of_text(what, 0 if counted is None else which)
    if way == "speech":
        return Span.of_speech(what, which)
    return Span.of_role(what, which)


def side_of(
    option: str, words: Sequence[str], spans: Mapping[str, Span]
) -> Literal["each", "all"] | list[int] | dict[str, Span]:
    """One side of an edge: each, all, positions, or names of spans.

    Raises:
        SpanError: a word is none of these, or they are mixed.

    >>> side_of("--keys", ["0", "-1"], {})
    [0, -1]
    """
    from circuitkit.spans import SpanError

    if list(words) in (["each"], ["all"]):
        return "each" if words[0] == "each" else "all"
    if all(re.fullmatch(r"-?\d+", word) for word in words):
        return [int(word) for word in words]
    if unknown := [word for word in words if word not in spans]:
        there = f"the spans are {', '.join(spans)}" if spans else f"name it first: --span {unknown[0]}='…'"
        raise SpanError(
            f"{option} takes each, all, positions, or names of spans, and these without the others; {unknown[0]!r} is "
            f"no span here: {there}"
        )
    return {word: spans[word] for word in words}
