"""Which words of a response stand in its question."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable

_WORD = re.compile(r"\w+")
_SENTENCE_ENDS = re.compile(r"[.!?;]\s|[.!?;]$|\n")
_OF_QUESTION = 0.75


def words(text: str) -> list[str]:
    """The words of a text in small letters, a plural's ending left out.

    >>> words("Every wumpus: 12 Dumpuses.")
    ['every', 'wumpus', '12', 'dumpus']
    """
    return [_stem(each) for each in _WORD.findall(text.lower())]


def _stem(word: str) -> str:
    if len(word) > 5 and word.endswith(("ses", "xes", "zes", "ches", "shes")):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


def common_words(texts: Iterable[str]) -> frozenset[str]:
    """The words that stand in half of some texts or more, and so tell nothing of any of them.

    >>> sorted(common_words(["a b", "a c", "a d"]))
    ['a']
    """
    each = [set(words(text)) for text in texts]
    counts = Counter(word for found in each for word in found)
    return frozenset(word for word, n in counts.items() if 2 * n >= len(each))


def share_in(text: str, question: Collection[str], common: frozenset[str]) -> float | None:
    """The share of a text's telling words that stand in a question; None where it has none.

    >>> share_in("Rex is loud", {"rex", "is", "shy"}, frozenset({"is"}))
    0.5
    """
    telling = [word for word in words(text) if word not in common]
    return sum(word in question for word in telling) / len(telling) if telling else None


def ways_of_arguing(answers: Iterable[str], questions: Iterable[str]) -> frozenset[str]:
    """The words that two answers have, or more, and no question: how one argues, and not of what.

    >>> sorted(ways_of_arguing(["assume a", "assume b"], ["a", "b"]))
    ['assume']
    """
    counts = Counter(word for answer in answers for word in set(words(answer)))
    asked = {word for question in questions for word in words(question)}
    return frozenset(word for word, n in counts.items() if n >= 2 and word not in asked)


def sentences_in(text: str, question: Collection[str], common: frozenset[str]) -> float | None:
    """The share of a text's sentences whose telling words stand in a question, three of four or more; None without any.

    >>> sentences_in("Rex is loud. Fae is shy.", {"rex", "loud", "is"}, frozenset({"is"}))
    0.5
    """
    shares = [share_in(sentence, question, common) for sentence in _SENTENCE_ENDS.split(text)]
    known = [share for share in shares if share is not None]
    return sum(share >= _OF_QUESTION for share in known) / len(known) if known else None
