"""The parts of speech of PrOntoQA's controlled English, word by word.

The language has a few dozen words, each with one part of speech, so that no tagger has to guess: it is looked up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from circuitkit.tasks.prontoqa.language import CONCEPTS, ENTITIES, PROPERTIES

PARTS_OF_SPEECH = (
    "entity",
    "concept",
    "property",
    "verb",
    "copula",
    "determiner",
    "conjunction",
    "negation",
    "pronoun",
    "preposition",
    "adverb",
    "noun",
    "marker",
    "punctuation",
    "space",
    "other",
)
"""Every part of speech that a word may have; "other" is what is not of the language."""

FUNCTION_WORDS = frozenset({"copula", "determiner", "conjunction", "negation", "pronoun", "preposition"})
"""The parts of speech that hold a sentence together and name nothing."""

_OTHERS = {
    "verb": "assume suppose prove contradict contradicts",
    "copula": "is are was were be",
    "determiner": "a an each every all no any some the",
    "conjunction": "and or if since then so because but",
    "negation": "not",
    "pronoun": "everything everyone something it this that these those which who",
    "preposition": "with of",
    "adverb": "therefore hence thus however",
    "noun": "contradiction proof",
    "property": "true false",
    "marker": "q",
}

_WORDS = {word: part for part, line in _OTHERS.items() for word in line.split()}
_WORDS |= {entity.lower(): "entity" for entity in ENTITIES}
_WORDS |= {form: "concept" for concept in CONCEPTS for form in (concept, f"{concept}es")}
_WORDS |= dict.fromkeys(PROPERTIES, "property")

# "A" is the mark of an answer where a colon follows, and an article otherwise.
_TOKEN = re.compile(r"(?P<marker>\b[QA](?=:))|[^\W_]+(?:[-'][^\W_]+)*|\s+|.", re.DOTALL)


def part_of_speech(word: str) -> str:
    """The part of speech of one word, whatever its case and the spaces around it; "other" for an unknown one.

    >>> [part_of_speech(word) for word in (" Fae", "Wumpuses", "not", " every", ".", "cat")]
    ['entity', 'concept', 'negation', 'determiner', 'punctuation', 'other']
    """
    plain = word.strip().lower()
    if not plain:
        return "space"
    if plain in _WORDS:
        return _WORDS[plain]
    return "other" if any(letter.isalnum() for letter in plain) else "punctuation"


def tagged(text: str) -> Iterator[tuple[int, int, str]]:
    """Each word and mark of a text: where it begins, where it ends, in characters, and its part of speech.

    >>> list(tagged("Rex is not"))
    [(0, 3, 'entity'), (3, 4, 'space'), (4, 6, 'copula'), (6, 7, 'space'), (7, 10, 'negation')]
    """
    for found in _TOKEN.finditer(text):
        part = "marker" if found["marker"] else part_of_speech(found.group())
        yield found.start(), found.end(), part
