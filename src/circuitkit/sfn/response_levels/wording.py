"""Which words of a response stand in its question."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable

_WORD = re.compile(r"\w+")


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
