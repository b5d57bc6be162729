"""Spans: token positions named by what stands there, a text, a role in the question, or a part of speech."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from torch import Tensor

from circuitkit.tasks.prontoqa import language

if TYPE_CHECKING:
    from circuitkit.model.model import Model
    from circuitkit.model.tokens import Prompts, Tokens

Range = tuple[int, int]
Tagger = Callable[[str], Iterable[tuple[int, int, str]]]
"""A text's tagged words, as (start, end, tag) in characters: `lambda text: [(t.idx, t.idx + len(t), t.pos_) for t in
nlp(text)]` for spaCy."""


class SpanError(ValueError):
    """A span that a prompt does not have, or that cannot be looked for."""


@dataclass(frozen=True)
class Role:
    """Where a role is found: by a pattern, within another role's place or the whole text.

    Attributes:
        pattern: a regular expression, "." matching line ends too; its first group is the span, or all of it if there
            is none.
        within: the role that it lies in.
    """

    pattern: str
    within: str | None = None


_ENTITY = f"(?:{'|'.join(language.ENTITIES)})"

PRONTOQA: Mapping[str, Role] = MappingProxyType(
    {
        # Exemplars come first; what is asked is the last question.
        "exchange": Role(r"\bQ:(?:(?!\bQ:).)*\Z"),
        "question": Role(r"\AQ:\s*(.*?)(?=\s*(?:\bA:|\Z))", "exchange"),
        "theory": Role(r"\A(.*?)(?=\s*(?:\bProve:|\bTrue or false:|\Z))", "question"),
        "query": Role(r"(?:\bProve|\bTrue or false):.*", "question"),
        "rule": Role(rf"(?:\A|(?<=\.)\s+)((?!{_ENTITY}\b)\w[^.]*\.)", "theory"),
        "fact": Role(rf"(?:\A|(?<=\.)\s+)({_ENTITY}\b[^.]*\.)", "theory"),
        "premise": Role(rf"(?:\A|(?<=\.)\s+)({_ENTITY}\b[^.]*\.)", "theory"),
        "proof": Role(r"\bA:\s*(\S.*)", "exchange"),
        "step": Role(r"\S[^.]*\.", "proof"),
    }
)
"""Roles in the prompts of `circuitkit.tasks.prontoqa`: those of the last question, and of the proof behind it."""

FUNCTION_WORDS = frozenset(
    word
    for line in (
        "a an the this that these those each every everything all any both either neither no none some such",
        "i you he she it we they me him her us them my your his its our their who whom whose which what",
        "about after as at before between by for from in into of off on onto out over than through to under up with",
        "and but if nor or since so then therefore thus hence because although while however",
        "am are be been being can could did do does had has have is may might must",
        "not shall should was were will would",
    )
    for word in line.split()
)
_PLURALS = {f"{concept}es" for concept in language.CONCEPTS}
_WORD_CLASSES: Mapping[str, frozenset[str]] = {
    "function": FUNCTION_WORDS,
    "entity": frozenset(word.lower() for word in language.ENTITIES),
    "concept": frozenset({*language.CONCEPTS, *_PLURALS}),
    "property": frozenset(language.PROPERTIES),
}


def word_classes(text: str) -> list[tuple[int, int, str]]:
    """Tag words by closed lists: English function words, and the entities, concepts and properties of PrOntoQA.

    >>> word_classes("Wren is a happy wumpus.")
    [(0, 4, 'entity'), (5, 7, 'function'), (8, 9, 'function'), (10, 15, 'property'), (16, 22, 'concept')]
    """
    words = re.finditer(r"\w+", text)
    return [
        (word.start(), word.end(), tag)
        for word in words
        for tag, members in _WORD_CLASSES.items()
        if word[0].lower() in members
    ]


@dataclass(frozen=True)
class Span:
    """Token positions that each prompt has in its own place; made by `of_text`, `of_role`, `of_speech` and `at`.

    Attributes:
        name: what results and errors call the span.
        find: its places in a text, in characters; None where positions are named outright.
        explicit: those positions.

    >>> model = ck.load("deductor-130k")
    >>> Span.of_text("dumpus").positions(model, ["Every wumpus is a dumpus.", "Fae is a dumpus."])
    [(4,), (3,)]
    """

    name: str
    find: Callable[[str], Sequence[Range]] | None = None
    explicit: tuple[int, ...] = ()

    @classmethod
    def of_text(cls, text: str, occurrence: int | None = 0) -> Span:
        """The tokens of a text's occurrence in each prompt: the first is 0, the last -1; all of them if None.

        A text is found inside words too: " is" names the word where "is" would find "This".

        Raises:
            SpanError: the text is empty.

        >>> Span.of_text("dumpus", occurrence=-1).name
        "'dumpus' [-1]"
        """
        if not text.strip():
            raise SpanError("a span's text is empty: name some words of the prompt")
        return cls._of_pattern(repr(text), re.escape(text), occurrence)

    @classmethod
    def of_role(cls, role: str, number: int | None = None, *, roles: Mapping[str, Role] = PRONTOQA) -> Span:
        """The tokens that play a role: all that do, or the `number`th of them, from 0 or, negative, from the end.

        Args:
            role: a name in `roles`, such as question, theory, query, rule, fact (or premise), proof and step.
            number: which, where a role occurs several times.
            roles: the table of roles; `{**PRONTOQA, "conclusion": Role(r"[^.]*\\.\\Z", within="proof")}` adds one.

        Raises:
            SpanError: no such role in the table, or one that lies within itself.

        >>> model = ck.load("deductor-130k")
        >>> prompt = "Q: Every wumpus is a dumpus. Fae is a wumpus. Prove: Fae is a dumpus.\\nA:"
        >>> Span.of_role("fact").positions(model, prompt)
        [(8, 9, 10, 11, 12)]
        """
        chain = _chain(role, roles)

        def find(text: str) -> list[Range]:
            places = [(0, len(text))]
            for each in chain:
                places = [found for place in places for found in _matches(each.pattern, text, place)]
            return _chosen(places, number)

        return cls(role if number is None else f"{role} [{number}]", find)

    @classmethod
    def of_speech(cls, part: str, occurrence: int | None = None, *, tagger: Tagger = word_classes) -> Span:
        """The tokens of all words of one part of speech, or of one of them.

        Args:
            part: a tag of the tagger; the built-in one has function, entity, concept and property.
            occurrence: which word, from 0 or, negative, from the end; all of them if None.
            tagger: tells a text's words and their tags.

        >>> Span.of_speech("concept").positions(ck.load("deductor-130k"), "Every wumpus is a dumpus.")
        [(1, 4)]
        """

        def find(text: str) -> list[Range]:
            return _chosen([(start, end) for start, end, tag in tagger(text) if tag == part], occurrence)

        return cls(part if occurrence is None else f"{part} [{occurrence}]", find)

    @classmethod
    def at(cls, *positions: int) -> Span:
        """Positions named outright, negative ones counting from each row's end.

        >>> Span.at(0, -1).positions(ck.load("deductor-130k"), ["Fae is a dumpus.", "Fae is loud."])
        [(0, 4), (0, 3)]
        """
        if not positions:
            raise SpanError("a span of positions needs one at least")
        return cls(", ".join(map(str, positions)), None, positions)

    @classmethod
    def _of_pattern(cls, name: str, pattern: str, occurrence: int | None) -> Span:
        def find(text: str) -> list[Range]:
            return _chosen(_matches(pattern, text, (0, len(text))), occurrence)

        return cls(name if occurrence is None else f"{name} [{occurrence}]", find)

    def within(self, outer: Span) -> Span:
        """What of this span lies in another one's places.

        Raises:
            SpanError: either names positions outright.

        >>> span = Span.of_speech("concept").within(Span.of_role("rule", 0))
        >>> span.positions(ck.load("deductor-130k"), "Q: Every wumpus is a dumpus. Fae is a wumpus.")
        [(3, 6)]
        """
        inner_find, outer_find = self.find, outer.find
        if inner_find is None or outer_find is None:
            raise SpanError("positions named outright have no text to lie within")

        def find(text: str) -> list[Range]:
            places = outer_find(text)
            return [(a, b) for a, b in inner_find(text) if any(start <= a and b <= end for start, end in places)]

        return Span(f"{self.name} in {outer.name}", find)

    def positions(
        self, model: Model, prompts: Prompts | Tokens, attention_mask: Tensor | None = None
    ) -> list[tuple[int, ...]]:
        """Each row's positions of the span, counting real tokens from 0, whatever the padding.

        Text is read with the tokenizer's offsets where it has them; token ids (generated ones too), by decoding them
        one after the other. A token belongs to the span if any character of it but blanks does.

        Raises:
            SpanError: a row does not have the span, or there is no tokenizer to read it with.
            PromptError: see `Model.tokens`.
        """
        tokens = model.tokens(prompts, attention_mask)
        rows = [ids[mask].tolist() for ids, mask in zip(tokens.ids, tokens.mask, strict=True)]
        find = self.find
        if find is None:
            return [self._at(row, len(ids)) for row, ids in enumerate(rows)]
        if model.tokenizer is None:
            raise SpanError(f"span {self.name} is looked for in text, but the model has no tokenizer: use Span.at")
        texts = [prompts] if isinstance(prompts, str) else prompts
        found: list[tuple[int, ...]] = []
        for row, ids in enumerate(rows):
            given = texts[row] if isinstance(texts, Sequence) else None
            text, ranges = _read(model.tokenizer, ids, given if isinstance(given, str) else None)
            places = find(text)
            positions = tuple(at for at, each in enumerate(ranges) if any(_meet(text, each, place) for place in places))
            if not positions:
                # Of a span that is not there at all, it does not matter which was meant.
                raise SpanError(f"row {row} has no {self.name.removesuffix(' [0]')}: its text is {text!r}")
            found.append(positions)
        return found

    def _at(self, row: int, length: int) -> tuple[int, ...]:
        wanted = [position + length if position < 0 else position for position in self.explicit]
        for named, position in zip(self.explicit, wanted, strict=True):
            if not 0 <= position < length:
                raise SpanError(f"position {named} does not exist in row {row}, which has {length} real tokens")
        return tuple(sorted(set(wanted)))

    def __repr__(self) -> str:
        return f"Span({self.name})"


def _chain(role: str, roles: Mapping[str, Role]) -> list[Role]:
    """A role and those that it lies in, outermost first."""
    names: list[str] = []
    at: str | None = role
    while at is not None:
        if at not in roles:
            raise SpanError(f"there is no role {at!r}; the roles are {', '.join(roles)}")
        if at in names:
            raise SpanError(f"role {at!r} lies within itself: {' in '.join([*names, at])}")
        names.append(at)
        at = roles[at].within
    return [roles[name] for name in reversed(names)]


def _matches(pattern: str, text: str, place: Range) -> list[Range]:
    start, end = place
    found = re.finditer(pattern, text[start:end], re.DOTALL)
    ranges = [match.span(1 if match.re.groups else 0) for match in found]
    return [(start + a, start + b) for a, b in ranges if b > a]


def _chosen(places: list[Range], number: int | None) -> list[Range]:
    if number is None:
        return places
    return [places[number]] if -len(places) <= number < len(places) else []


def _meet(text: str, token: Range, place: Range) -> bool:
    start, end = token
    # A token's blanks belong to it as its beginning, not as what it says; a token of blanks alone says them.
    said = text[start:end]
    if said.strip():
        start, end = start + len(said) - len(said.lstrip()), end - len(said) + len(said.rstrip())
    return start < place[1] and place[0] < end


def _read(tokenizer: Any, ids: list[int], given: str | None) -> tuple[str, list[Range]]:
    """A row's text, and each token's place in it."""
    if given is not None and getattr(tokenizer, "is_fast", False):
        encoded = tokenizer(given, return_offsets_mapping=True)
        if list(encoded["input_ids"]) == ids:
            return given, [(int(start), int(end)) for start, end in encoded["offset_mapping"]]
    text = _decoded(tokenizer, ids)
    ends = list(accumulate((_agreeing(_decoded(tokenizer, ids[: n + 1]), text) for n in range(len(ids))), max))
    starts = [0, *ends[:-1]]
    # A character of several tokens comes out with the last of them, and yet belongs to each.
    return text, [(start, max(end, start + 1)) for start, end in zip(starts, ends, strict=True)]


def _agreeing(start: str, text: str) -> int:
    """How many of a text's first characters its decoded beginning has; half a character is not yet it."""
    if text.startswith(start):
        return len(start)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(start, text, strict=False)))


def _decoded(tokenizer: Any, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
