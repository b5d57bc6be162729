"""Sentences of the controlled English, read into logical forms."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from circuitkit.tasks.prontoqa.language import CONCEPTS, ENTITIES, FUNCTION_WORDS, OPENING_WORDS, PROPERTIES
from circuitkit.tasks.prontoqa.logic import (
    Atom,
    Formula,
    Not,
    Rule,
    about,
    conjunction,
    disjunction,
    negation,
)

SentenceKind = Literal["claim", "assumption", "contradiction"]

_RESERVED = frozenset(word.lower() for word in (*FUNCTION_WORDS, *OPENING_WORDS))
_OPENINGS = frozenset({"therefore", "thus", "so", "hence", "however", "then"})


class ParseError(ValueError):
    """A sentence is not of the controlled English; the message quotes it."""


@dataclass(frozen=True)
class Sentence:
    """What a sentence does: claim its form, assume it, or name it as what the step before contradicts."""

    text: str
    kind: SentenceKind
    form: Formula


def sentences(text: str) -> list[str]:
    """Split a text at its full stops, leaving out what comes after the last one.

    >>> sentences("Fae is loud. Fae is a wumpus. Fae")
    ['Fae is loud.', 'Fae is a wumpus.']
    """
    return [f"{' '.join(part.split())}." for part in text.split(".")[:-1] if part.strip()]


def parse(sentence: str) -> list[Sentence]:
    """Read one sentence; "Since A, B." is two claims, any other sentence is one.

    Raises `ParseError` where the sentence is not of the controlled English.

    >>> parse("Assume Fae is a wumpus.")[0].form
    Atom(predicate='wumpus', subject='Fae')
    """
    tokens = re.findall(r"\w+|[^\w\s]", sentence)
    if tokens and tokens[-1] == ".":
        tokens.pop()
    if len(tokens) > 1 and tokens[0].lower() in _OPENINGS:
        tokens = tokens[2 if tokens[1] == "," else 1 :]
    lowered = [token.lower() for token in tokens]
    if lowered[:1] in (["assume"], ["suppose"]):
        start = 2 if lowered[1:2] == ["that"] else 1
        return [Sentence(sentence, "assumption", _claim(tokens[start:], sentence))]
    if lowered[:3] == ["this", "contradicts", "with"]:
        return [Sentence(sentence, "contradiction", _claim(tokens[3:], sentence))]
    if lowered[:1] == ["since"]:
        if "," not in tokens:
            raise ParseError(f"{sentence!r} gives a reason without a conclusion")
        comma = tokens.index(",")
        claims = (_claim(tokens[1:comma], sentence), _claim(tokens[comma + 1 :], sentence))
        return [Sentence(sentence, "claim", claim) for claim in claims]
    return [Sentence(sentence, "claim", _claim(tokens, sentence))]


def _claim(tokens: Sequence[str], sentence: str) -> Formula:
    """Read "Fae is …", several of them joined, or a universal rule."""
    verbs = [index for index, token in enumerate(tokens) if token in ("is", "are")]
    if not verbs or verbs[-1] == len(tokens) - 1:
        raise ParseError(f"{sentence!r} says nothing of anything")
    if verbs[0] == 1 and _is_name(tokens[0]):
        return _joined_clauses(tokens, sentence)
    return _universal(tokens, verbs, sentence)


def _joined_clauses(tokens: Sequence[str], sentence: str) -> Formula:
    clauses: list[list[str]] = [[]]
    joins: set[str] = set()
    for index, token in enumerate(tokens):
        opens = token in ("and", "or", ",") and list(tokens[index + 2 : index + 3]) == ["is"]
        if opens and _is_name(tokens[index + 1]):
            joins.add(token)
            clauses.append([])
        else:
            clauses[-1].append(token)
    forms = []
    for clause in clauses:
        body = [token for token in clause if token != ","] if len(clauses) > 1 else clause
        if len(body) < 3 or body[1] != "is":
            raise ParseError(f"{sentence!r} holds a clause that cannot be read")
        forms.append(about(_predicate(body[2:], sentence), body[0]))
    joins.discard(",")
    if len(joins) > 1:
        raise ParseError(f"{sentence!r} mixes 'and' with 'or'")
    return disjunction(forms) if joins == {"or"} else conjunction(forms)


def _universal(tokens: Sequence[str], verbs: Sequence[int], sentence: str) -> Formula:
    lowered = [token.lower() for token in tokens]
    if lowered[:2] == ["everything", "that"]:
        if len(verbs) != 2 or verbs[0] != 2:
            raise ParseError(f"{sentence!r} is not 'Everything that is … is …'")
        antecedent, denied = _predicate(lowered[3 : verbs[1]], sentence), False
    else:
        if len(verbs) != 1:
            raise ParseError(f"{sentence!r} has more than one verb")
        denied = lowered[0] == "no"
        quantified = lowered[0] in ("each", "every", "all", "no")
        subject = lowered[1 if quantified else 0 : verbs[0]]
        if not quantified and not _is_plural(subject[-1] if subject else ""):
            raise ParseError(f"{sentence!r} does not say whether it speaks of one or of all")
        antecedent = _predicate(subject, sentence)
    consequent = _predicate(lowered[verbs[-1] + 1 :], sentence)
    return Rule(antecedent, negation(consequent) if denied else consequent)


def _predicate(tokens: Sequence[str], sentence: str) -> Formula:
    """Read what stands after "is": an optional "not", then phrases joined by "and", "or" and commas."""
    if tokens and tokens[0] == "not":
        return Not(_predicate(tokens[1:], sentence))
    phrases: list[list[str]] = [[]]
    joins: set[str] = set()
    for token in tokens:
        if token in ("and", "or", ","):
            joins.add(token)
            if phrases[-1]:
                phrases.append([])
        else:
            phrases[-1].append(token)
    if {"and", "or"} <= joins:
        raise ParseError(f"{sentence!r} mixes 'and' with 'or'")
    forms = [_phrase(phrase, sentence) for phrase in phrases]
    return disjunction(forms) if "or" in joins else conjunction(forms)


def _phrase(tokens: Sequence[str], sentence: str) -> Formula:
    """Read an adjective, or a noun with adjectives and an article before it."""
    words = list(tokens[1:] if tokens and tokens[0] in ("a", "an") else tokens)
    if not words or any(word.lower() in _RESERVED or not word.isalpha() for word in words):
        raise ParseError(f"{sentence!r} holds a phrase that cannot be read: {' '.join(tokens)!r}")
    return conjunction(Atom(_singular(word.lower()), None) for word in words)


def _is_name(word: str) -> bool:
    return word in ENTITIES or (word[0].isupper() and _singular(word.lower()) not in (*CONCEPTS, *PROPERTIES))


def _is_plural(word: str) -> bool:
    return word.lower().endswith("es") and word.lower()[:-2] in CONCEPTS


def _singular(word: str) -> str:
    return word[:-2] if _is_plural(word) else word
