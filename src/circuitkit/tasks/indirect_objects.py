"""Pairs of sentences that call for their indirect object: "… Mary and John went … John gave a drink to" Mary."""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Int
from torch import Tensor

from circuitkit.pairs import PairError, Pairs
from circuitkit.tasks.vocabulary import require_known, single_tokens

if TYPE_CHECKING:
    from circuitkit.model.model import Model

TEMPLATES = (
    "Then, {first} and {second} went to the {place}. {giver} gave a {object} to",
    "When {first} and {second} went to the {place}, {giver} gave a {object} to",
    "After {first} and {second} met at the {place}, {giver} decided to give a {object} to",
    "While {first} and {second} were working at the {place}, {giver} gave a {object} to",
    "Then, {first} and {second} had a long talk at the {place}, and {giver} handed a {object} to",
    "The friends {first} and {second} found a {object} at the {place}, and {giver} gave it to",
)
NAMES = tuple(
    word
    for line in (
        "Mary John Tom James Robert Michael William David Richard Joseph Thomas Charles Daniel Matthew Anthony Mark",
        "Paul Steven Andrew Kevin Brian George Edward Jason Jeffrey Ryan Jacob Gary Eric Jonathan Larry Justin Scott",
        "Patricia Jennifer Linda Elizabeth Barbara Susan Jessica Sarah Karen Nancy Lisa Margaret Sandra Ashley Emily",
        "Donna Michelle Carol Amanda Melissa Laura Rachel Anna Kate Alice Martin Simon Adam Peter Max Alex Sam Rex",
    )
    for word in line.split()
)
PLACES = ("store", "garden", "restaurant", "school", "hospital", "office", "house", "station", "market", "park")
OBJECTS = ("ring", "drink", "book", "basketball", "computer", "necklace", "snack", "letter", "ball", "key")


def pairs(
    tokenizer: Any,
    n: int = 48,
    seed: int = 0,
    *,
    order: Literal["ABBA", "BABA", "both"] = "both",
    corruption: Literal["swap", "abc"] = "swap",
    templates: Sequence[int] | None = None,
) -> Pairs:
    """Draw clean and corrupt sentences that call for an indirect object (IO) rather than the subject (S).

    Names, places and objects are words of one token, so sentences of one template have one length. Groups are the
    templates, each order counted apart.

    Args:
        tokenizer: the model's.
        n: number of pairs.
        seed: of the draw.
        order: "ABBA" names the IO first in the first clause, "BABA" the S; "both" draws.
        corruption: "swap" lets the IO give in the corrupt sentence, which then calls for the S; "abc" has three other
            names there, so that it calls for none of the two.
        templates: which of `TEMPLATES` to draw from; all if None. Name one where positions are to be in common.

    Returns:
        Pairs whose answer is the IO and whose distractor is the S.

    Raises:
        ValueError: the tokenizer lacks a word, or has too few names, places or objects of one token.

    Source: Wang et al. 2022, arXiv 2211.00593, section 2 and appendix E (templates; p_ABC).

    >>> pairs(ck.load("deductor-130k").tokenizer, n=1)
    Traceback (most recent call last):
    ...
    ValueError: the tokenizer does not know every word of 'Then, went to the. gave a to', ...
    """
    if order not in ("ABBA", "BABA", "both") or corruption not in ("swap", "abc"):
        raise ValueError(
            f"order is 'ABBA', 'BABA' or 'both' and corruption 'swap' or 'abc', not {order!r}, {corruption!r}"
        )
    numbers = list(range(len(TEMPLATES))) if templates is None else list(templates)
    if not numbers or not all(0 <= number < len(TEMPLATES) for number in numbers):
        raise ValueError(f"templates are numbers from 0 to {len(TEMPLATES) - 1}, not {numbers}")
    require_known(tokenizer, (_bare(TEMPLATES[number]) for number in numbers), "indirect objects")
    words = {"names": NAMES, "places": PLACES, "objects": OBJECTS}
    known = {what: single_tokens(tokenizer, those) for what, those in words.items()}
    for what, least in (("names", 5), ("places", 1), ("objects", 1)):
        if len(known[what]) < least:
            raise ValueError(
                f"the tokenizer has {len(known[what])} {what} of one token, where indirect objects need {least}: give "
                "pairs of your own"
            )
    random = Random(seed)
    rows = [_pair(random, known, random.choice(numbers), order, corruption) for _ in range(n)]
    clean, corrupt, answer, distractor, groups = (list(column) for column in zip(*rows, strict=True))
    return Pairs(clean, corrupt, answer, distractor, groups)


def _bare(template: str) -> str:
    """A template's own words, its slots taken out."""
    words = re.sub(r" \{second\}| and(?= \{second\})| ?\{\w+\}", "", template)
    return words.replace("  ", " ").strip()


def _pair(
    random: Random, known: dict[str, list[str]], number: int, order: str, corruption: str
) -> tuple[str, str, str, str, str]:
    io, subject, *others = random.sample(known["names"], 5)
    order = random.choice(("ABBA", "BABA")) if order == "both" else order
    place, thing = random.choice(known["places"]), random.choice(known["objects"])

    def sentence(io: str, subject: str, giver: str) -> str:
        first, second = (io, subject) if order == "ABBA" else (subject, io)
        return TEMPLATES[number].format(first=first, second=second, giver=giver, place=place, object=thing)

    corrupt = sentence(io, subject, io) if corruption == "swap" else sentence(*others)
    return sentence(io, subject, subject), corrupt, f" {io}", f" {subject}", f"{number} {order}"


def positions(model: Model, pairs: Pairs) -> dict[Literal["IO", "S1", "S2", "end"], Int[Tensor, " pair"]]:
    """Where the names stand in each clean sentence, as positions of real tokens; "end" is the last token.

    Raises:
        PairError: a sentence does not hold its answer once and its distractor twice, each as one token.
    """
    aligned = pairs.on(model)
    answer, distractor = aligned.targets.answer, aligned.targets.distractor
    if distractor is None or answer.shape[1] != 1 or distractor.shape[1] != 1:
        raise PairError("these are no pairs of indirect objects: their answers are not one token each, and two names")
    found: dict[Literal["IO", "S1", "S2", "end"], list[int]] = {"IO": [], "S1": [], "S2": [], "end": []}
    for row, (ids, real) in enumerate(zip(aligned.clean.ids, aligned.clean.mask, strict=True)):
        own = ids[real]
        io, subject = ((own == name[row, 0]).nonzero().flatten().tolist() for name in (answer, distractor))
        if len(io) != 1 or len(subject) != 2:
            raise PairError(
                f"clean prompt {row} holds its answer {len(io)} times and its distractor {len(subject)} times"
            )
        for name, place in zip(("IO", "S1", "S2", "end"), (*io, *subject, len(own) - 1), strict=True):
            found[name].append(place)  # type: ignore[index]  # the four names
    return {name: torch.tensor(places) for name, places in found.items()}
