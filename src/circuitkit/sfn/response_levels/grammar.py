"""Which sentences of a response are sentences of the language that its prompts and an intact model speak."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable

from circuitkit.sfn.response_levels.wording import words

_SENTENCE = re.compile(r"[^\n]*?[.!?;](?=\s|$)|[^\n]+")
_TOKEN = re.compile(r"\w+|[^\w\s]")
_CLOSED = frozenset(
    words(
        """
        a an the this that these those every everything each all any some no none and or but nor if then else than
        as so because since therefore thus hence not is are was were be been being am do does did has have had can
        could will would shall should may might must of in on at to from by with for into over under about between i
        you he she it we they him her them his its our their who whom which what where when why how there here true
        false yes
        """
    )
)
"""English words that no one invents: articles, quantifiers, conjunctions, auxiliaries, prepositions, pronouns."""


def sentences(text: str, ended: bool = True) -> list[str]:
    """The sentences of a text, a line's end ending one too; a last one that was cut off is left out, unless alone.

    >>> sentences("Rex is shy. Fae is", ended=False)
    ['Rex is shy.']
    """
    found = [each.strip() for each in _SENTENCE.findall(text) if re.search(r"\w", each)]
    cut = not ended and len(found) > 1 and not text.rstrip(" ").endswith((".", "!", "?", ";", "\n"))
    return found[:-1] if cut else found


def frame(sentence: str, arguing: Collection[str] = ()) -> str:
    """A sentence with its telling words replaced by their form: capital or not, plural or not.

    Args:
        sentence: the sentence.
        arguing: words that are kept, beside those of the language's closed classes.

    >>> frame("Rex is a shy wumpus."), frame("Wumpuses are shy.")
    ('X is a x x .', 'Xs are x .')
    """
    return " ".join(_form(each, arguing) for each in _TOKEN.findall(sentence))


def _form(token: str, arguing: Collection[str]) -> str:
    small = token.lower()
    if not token[0].isalpha() or words(token)[0] in _CLOSED or words(token)[0] in arguing:
        return small
    return ("X" if token[0].isupper() else "x") + ("s" if words(token)[0] != small else "")


def frames(prompts: Iterable[str], answers: Iterable[str], arguing: Collection[str]) -> frozenset[str]:
    """The frames of sentences in prompts, and of those that two answers have, or more.

    >>> sorted(frames(["Rex is shy."], ["Rex is a cat.", "Fae is a dog.", "Fae dog."], ()))
    ['X is a x .', 'X is x .']
    """
    known = {frame(each, arguing) for text in prompts for each in sentences(text)}
    counts = Counter(one for text in answers for one in {frame(each, arguing) for each in sentences(text)})
    return frozenset(known | {one for one, n in counts.items() if n >= 2})


def well_formed(text: str, ended: bool, known: Collection[str], arguing: Collection[str]) -> float | None:
    """The share of a text, in words, that stands in sentences of known frames; None where it has no telling word.

    >>> well_formed("Rex is shy. Fae is is.", True, {"X is x ."}, ())
    0.5
    """
    parts = sentences(text, ended)
    told = [(len(words(each)), frame(each, arguing)) for each in parts]
    if not any(form in {"X", "x", "Xs", "xs"} for _, each in told for form in each.split()):
        return None
    return sum(n for n, each in told if each in known) / sum(n for n, _ in told)
