"""Pairs of sentences that call for a later year: "The war lasted from the year 1732 to the year 17" 33 or more."""

from __future__ import annotations

from random import Random
from typing import Any

import torch
from torch import Tensor

from circuitkit.metrics import Metric, Targets
from circuitkit.pairs import Pairs
from circuitkit.tasks.vocabulary import require_known, single_tokens, token_ids

TEMPLATE = "The {noun} lasted from the year {century}{year} to the year {century}"
NOUNS = tuple(
    word
    for line in (
        "war battle campaign siege conflict rebellion revolution raid expedition voyage journey mission trial debate",
        "tour reign regime dynasty empire crisis famine plague project program operation construction marriage treaty",
    )
    for word in line.split()
)
CENTURIES = tuple(range(11, 18))


def pairs(tokenizer: Any, n: int = 48, seed: int = 0) -> Pairs:
    """Draw clean and corrupt sentences: a clean one calls for any year after its own, a corrupt one after 01.

    Args:
        tokenizer: the model's; it has to split a year into its century and two digits, each one token, as GPT-2's does.
        n: number of pairs.
        seed: of the draw.

    Returns:
        Pairs whose answer is the first year that is right and whose distractor is the last that is wrong, the
        sentence's own; `probability_difference` measures all years. Groups are the nouns.

    Raises:
        ValueError: the tokenizer lacks a word, or does not split years so.

    Source: Hanna et al. 2023, arXiv 2305.00586, section 3.

    >>> pairs(ck.load("deductor-130k").tokenizer, n=1)
    Traceback (most recent call last):
    ...
    ValueError: ...
    """
    require_known(tokenizer, ["The lasted from the year to the year"], "greater-than")
    table, nouns = years(tokenizer), single_tokens(tokenizer, NOUNS)
    drawable = [
        (century, year)
        for century in CENTURIES
        if _split(tokenizer, century, 1) is not None
        for year in range(2, 99)
        if _split(tokenizer, century, year) is not None
    ]
    if not nouns or not drawable:
        raise ValueError(
            f"the tokenizer has {len(nouns)} nouns and {len(drawable)} years that greater-than can be asked of"
        )
    random = Random(seed)
    drawn = [(*random.choice(drawable), random.choice(nouns)) for _ in range(n)]
    return Pairs(
        clean=[TEMPLATE.format(noun=noun, century=century, year=f"{year:02d}") for century, year, noun in drawn],
        corrupt=[TEMPLATE.format(noun=noun, century=century, year="01") for century, _, noun in drawn],
        answer=[table[year + 1] for _, year, _ in drawn],
        distractor=[table[year] for _, year, _ in drawn],
        groups=[noun for *_, noun in drawn],
    )


def years(tokenizer: Any) -> list[int]:
    """The token of each two digits, 00 to 99, as it stands behind a century.

    Raises:
        ValueError: the tokenizer has no such token for some of them.
    """
    table: list[int] = []
    for year in range(100):
        found = {split for century in CENTURIES if (split := _split(tokenizer, century, year)) is not None}
        if len(found) != 1:
            raise ValueError(
                "the tokenizer does not split years into a century and two digits of one token each (as in "
                f"17|{year:02d}), so greater-than cannot be asked with it"
            )
        table.append(found.pop())
    return table


def _split(tokenizer: Any, century: int, year: int) -> int | None:
    """The token of a year's last two digits, or None where the year is not split between century and year."""
    alone, whole = token_ids(tokenizer, f" {century}"), token_ids(tokenizer, f" {century}{year:02d}")
    if len(alone) != 1 or len(whole) != 2 or whole[0] != alone[0] or tokenizer.unk_token_id in whole:
        return None
    return whole[1]


def probability_difference(tokenizer: Any) -> Metric:
    """The probability of all years after the sentence's own less that of the others, between −1 and 1.

    Source: Hanna et al. 2023, arXiv 2305.00586, section 3 (probability difference).
    """
    table = torch.tensor(years(tokenizer))

    def compute(logits: Tensor, targets: Targets) -> Tensor:
        of_years = logits.softmax(-1)[:, table.to(logits.device)]
        matches = targets.answer[:, :1].to(logits.device) == table.to(logits.device)
        if not bool(matches.any(-1).all()):
            raise ValueError("an answer is no two-digit year: this metric measures pairs of greater-than")
        first = matches.long().argmax(-1, keepdim=True)
        later = torch.arange(len(table), device=logits.device) >= first
        return torch.where(later, of_years, -of_years).sum(-1)

    return Metric("probability_difference", compute)
