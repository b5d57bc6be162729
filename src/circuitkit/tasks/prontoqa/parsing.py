"""Sentences of the controlled English, read into logical forms.

What is read is what the published scorer reads, number and article included: "Fae is a loud." and "Wumpuses are
tumpus." are not of the language.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from circuitkit.tasks.prontoqa.language import CONCEPTS, ENTITIES, FUNCTION_WORDS, OPENING_WORDS, PROPERTIES
from circuitkit.tasks.prontoqa.logic import Atom, Formula, Rule, about, conjunction, disjunction, negation

SentenceKind = Literal["claim", "assumption", "contradiction"]

_RESERVED = frozenset(word.lower() for word in (*FUNCTION_WORDS, *OPENING_WORDS, "because", "as"))
_PREFIXES = (
    ("therefore",),
    ("however",),
    ("this", "proves"),
    ("according", "to", "the", "given", "information"),
)
_CONTRADICTIONS = (("this", "contradicts", "with"), ("this", "contradicts", "the", "fact", "that"))
_BARE_CONTRADICTIONS = (["this", "is", "a", "contradiction"], ["contradiction"])
_CONSEQUENCE = frozenset({"so", "therefore"})
_REASON = frozenset({"because", "since", "as"})


class ParseError(ValueError):
    """A sentence is not of the controlled English; the message quotes it."""


@dataclass(frozen=True)
class Sentence:
    """What a sentence does: claim its form, assume it, or name it as what the step before contradicts.

    `form` is None in "This is a contradiction.", which names nothing.
    """

    text: str
    kind: SentenceKind
    form: Formula | None


def sentences(text: str) -> list[str]:
    """Split a text at its full stops and semicolons, leaving out what comes after the last one.

    >>> sentences("Fae is loud. Fae is a wumpus. Fae")
    ['Fae is loud.', 'Fae is a wumpus.']
    """
    return [f"{' '.join(part.split())}." for part in re.split("[.;]", text)[:-1] if part.strip()]


# A proof repeats its question's sentences, and its own.
@lru_cache(maxsize=1024)
def parse(sentence: str) -> tuple[Sentence, ...]:
    """Read one sentence; "Since A, B.", "A, so B." and "B because A." are two claims, any other is one.

    Raises `ParseError` where the sentence is not of the controlled English.

    >>> parse("Assume Fae is a wumpus.")[0].form
    Atom(predicate='wumpus', subject='Fae')
    """
    tokens = re.findall(r"[\w-]+|[^\w\s]", sentence)
    if tokens and tokens[-1] == ".":
        tokens.pop()
    tokens = _without_prefix(tokens)
    lowered = [token.lower() for token in tokens]
    if lowered in _BARE_CONTRADICTIONS:
        return (Sentence(sentence, "contradiction", None),)
    if lowered[:1] == ["assume"]:
        return (Sentence(sentence, "assumption", _claim(tokens[1:], sentence)),)
    for words in _CONTRADICTIONS:
        if tuple(lowered[: len(words)]) == words:
            return (Sentence(sentence, "contradiction", _claim(tokens[len(words) :], sentence)),)
    if lowered[:1] in (["since"], ["as"]):
        claims = _since(tokens[1:], sentence)
    else:
        claims = [_claim(part, sentence) for part in _reason_and_conclusion(tokens)]
    return tuple(Sentence(sentence, "claim", claim) for claim in claims)


def _without_prefix(tokens: list[str]) -> list[str]:
    lowered = [token.lower() for token in tokens]
    for words in _PREFIXES:
        if tuple(lowered[: len(words)]) == words:
            rest = tokens[len(words) :]
            return rest[1:] if rest[:1] == [","] else rest
    return tokens


def _since(tokens: list[str], sentence: str) -> list[Formula]:
    """Read the reason and the conclusion, which begins behind the first comma that "Fae is" follows."""
    commas = [place for place, token in enumerate(tokens) if token == ","]
    if not commas:
        raise ParseError(f"{sentence!r} gives a reason without a conclusion")
    named = (place for place in commas if tokens[place + 2 : place + 3] == ["is"] and _is_name(tokens[place + 1]))
    comma = next(named, commas[0])
    return [_claim(tokens[:comma], sentence), _claim(tokens[comma + 1 :], sentence)]


def _reason_and_conclusion(tokens: list[str]) -> list[list[str]]:
    """Split a sentence that gives a reason into the reason and the conclusion, in this order."""
    for place, token in enumerate(tokens):
        if token in _CONSEQUENCE | _REASON:
            first, second = tokens[: place - (tokens[place - 1] == ",")], tokens[place + 1 :]
            return [first, second] if token in _CONSEQUENCE else [second, first]
    return [tokens]


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
    if joins == {","}:
        raise ParseError(f"{sentence!r} joins clauses by a comma alone")
    forms = []
    for clause in clauses:
        body = [token for token in clause if token != ","] if len(clauses) > 1 else clause
        if len(body) < 3 or body[1] != "is":
            raise ParseError(f"{sentence!r} holds a clause that cannot be read")
        forms.append(about(_predicate(body[2:], sentence, plural=False), body[0]))
    joins.discard(",")
    if len(joins) > 1:
        raise ParseError(f"{sentence!r} mixes 'and' with 'or'")
    return disjunction(forms) if joins == {"or"} else conjunction(forms)


def _universal(tokens: Sequence[str], verbs: Sequence[int], sentence: str) -> Formula:
    lowered = [tokens[0].lower(), *tokens[1:]]
    if lowered[:2] == ["everything", "that"]:
        if len(verbs) != 2 or lowered[2] != "is" or lowered[verbs[1]] != "is":
            raise ParseError(f"{sentence!r} is not 'Everything that is … is …'")
        plural, antecedent = False, _predicate(lowered[3 : verbs[1]], sentence, plural=False)
    else:
        if len(verbs) != 1:
            raise ParseError(f"{sentence!r} has more than one verb")
        plural = lowered[verbs[0]] == "are"
        quantified = lowered[0] in ("each", "every", "all", "no")
        if lowered[0] in ("each", "every") if plural else lowered[0] not in ("each", "every", "no"):
            raise ParseError(f"{sentence!r} does not say whether it speaks of one or of all")
        antecedent = _phrase(lowered[1 if quantified else 0 : verbs[0]], sentence, plural, noun=True)
    consequent = _predicate(lowered[verbs[-1] + 1 :], sentence, plural)
    return Rule(antecedent, negation(consequent) if lowered[0] == "no" else consequent)


def _predicate(tokens: Sequence[str], sentence: str, plural: bool) -> Formula:
    """Read what stands after the verb: an optional "not", then phrases joined by "and", "or" and commas."""
    if tokens and tokens[0] == "not":
        return negation(_predicate(tokens[1:], sentence, plural))
    joins = {token for token in tokens if token in ("and", "or")}
    if len(joins) > 1:
        raise ParseError(f"{sentence!r} mixes 'and' with 'or'")
    forms = []
    for phrase in _split(tokens):
        denied = phrase[:1] == ["not"]
        form = _phrase(phrase[denied:], sentence, plural, noun=False)
        forms.append(negation(form) if denied else form)
    return disjunction(forms) if "or" in joins else conjunction(forms)


def _split(tokens: Sequence[str]) -> Iterator[list[str]]:
    """Yield the phrases between "and", "or" and commas; ", and" is one join."""
    phrase: list[str] = []
    for token in tokens:
        if token in ("and", "or", ","):
            if phrase:
                yield phrase
            phrase = []
        else:
            phrase.append(token)
    yield phrase


def _phrase(tokens: Sequence[str], sentence: str, plural: bool, noun: bool) -> Formula:
    """Read adjectives, or a noun with adjectives before it; an article, or `noun`, asks for a noun at the end."""
    has_article = list(tokens[:1]) in (["a"], ["an"])
    words = list(tokens[1:] if has_article else tokens)
    if not words or (has_article and plural) or not all(map(_is_word, words)):
        raise ParseError(f"{sentence!r} holds a phrase that cannot be read: {' '.join(tokens)!r}")
    nouns = [_is_concept(word) for word in words]
    if any(nouns[:-1]) or ((has_article or noun) and not nouns[-1]):
        raise ParseError(f"{sentence!r} holds a phrase without a noun at its end: {' '.join(tokens)!r}")
    if nouns[-1] and _is_plural(words[-1]) != plural:
        raise ParseError(f"{sentence!r} speaks of one and of many: {' '.join(tokens)!r}")
    return conjunction(Atom(_singular(word.lower()), None) for word in words)


def _is_word(token: str) -> bool:
    return token.replace("-", "").isalpha() and token.lower() not in _RESERVED and token not in ENTITIES


def _is_name(word: str) -> bool:
    known = word.lower() in _RESERVED or _singular(word.lower()) in (*CONCEPTS, *PROPERTIES)
    return word in ENTITIES or (word[0].isupper() and not known)


def _is_concept(word: str) -> bool:
    """Say whether `word` has the form that every concept has, also one that this ontology lacks."""
    return _singular(word.lower()).endswith("pus")


def _is_plural(word: str) -> bool:
    return word.lower().endswith("puses")


def _singular(word: str) -> str:
    return word[:-2] if _is_plural(word) else word
