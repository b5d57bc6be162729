"""Tokens told apart by part of speech: who tags words, and how a word's tag comes to its tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from circuitkit.tasks.prontoqa import lexicon

FIRST, UNTAGGED = "first token", "untagged"
"""The tags of a prompt's first token, which takes what attention has nowhere else to put, and of what no word is."""


class Tagger(Protocol):
    """Gives the words of a text their parts of speech."""

    @property
    def function_words(self) -> frozenset[str]:
        """Which parts of speech are those of function words."""

    def __call__(self, text: str) -> Iterable[tuple[int, int, str]]:
        """Where each word begins and ends, in characters, and its part of speech; in order, without overlap."""


@dataclass(frozen=True)
class Lexicon:
    """PrOntoQA's own words, looked up; a word that is not of the language is "other".

    >>> list(Lexicon()("Rex is not"))[0]
    (0, 3, 'entity')
    """

    function_words: frozenset[str] = lexicon.FUNCTION_WORDS

    def __call__(self, text: str) -> Iterable[tuple[int, int, str]]:
        """See `circuitkit.tasks.prontoqa.lexicon.tagged`."""
        return lexicon.tagged(text)


@dataclass(frozen=True)
class Spacy:
    """Universal parts of speech (DET, NOUN, …) by a spaCy pipeline.

    Attributes:
        pipeline: what spaCy loaded, or the name of a model that is installed, such as "en_core_web_sm".

    Raises:
        ValueError: spaCy is not installed, or there is no model of that name.
    """

    pipeline: Any = "en_core_web_sm"
    function_words: frozenset[str] = frozenset({"ADP", "AUX", "CCONJ", "DET", "PART", "PRON", "SCONJ"})

    def __post_init__(self) -> None:
        if isinstance(self.pipeline, str):
            object.__setattr__(self, "pipeline", _loaded(self.pipeline))

    def __call__(self, text: str) -> Iterable[tuple[int, int, str]]:
        """Each word of the text with spaCy's `pos_`.

        Raises:
            ValueError: the pipeline gives no parts of speech.
        """
        for word in self.pipeline(text):
            if not word.pos_:
                raise ValueError(
                    "this spaCy pipeline gives no parts of speech: load one with a tagger or morphologizer"
                )
            yield word.idx, word.idx + len(word.text), str(word.pos_)


def _loaded(name: str) -> Any:
    try:
        import spacy  # type: ignore[import-not-found]  # an option of the user's
    except ImportError as error:
        raise ValueError("tagging with spaCy needs it installed: pip install spacy") from error
    try:
        return spacy.load(name)
    except OSError as error:
        raise ValueError(f"spaCy has no model {name!r}: python -m spacy download {name}") from error


def token_tags(words: Sequence[str], tagger: Tagger) -> list[str]:
    """The tags of a prompt's tokens: each has that of the word that most of its characters are of.

    A token's white space does not count, unless it has nothing else. The tokens' own texts, joined, are what is tagged,
    so that a word split over tokens gives its tag to all of them.

    Raises:
        ValueError: the tagger's words overlap or lie outside the text.

    >>> token_tags([" wum", "puses", " are", " bright", "."], Lexicon())
    ['concept', 'concept', 'copula', 'property', 'punctuation']
    """
    text = "".join(words)
    owner: list[str] = [UNTAGGED] * len(text)
    end = 0
    for start, stop, tag in tagger(text):
        if not end <= start <= stop <= len(text):
            raise ValueError(f"the tagger's word at {start} to {stop} overlaps another or lies outside the text")
        owner[start:stop] = [tag] * (stop - start)
        end = stop
    tags, at = [], 0
    for word in words:
        span = range(at, at + len(word))
        at += len(word)
        solid = [owner[place] for place in span if not text[place].isspace()] or [owner[place] for place in span]
        tags.append(max(dict.fromkeys(solid), key=solid.count) if solid else UNTAGGED)
    return tags
