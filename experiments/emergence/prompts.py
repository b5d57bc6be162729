"""Pairs of prompts: a problem with how either model begins to answer it, and deductions that differ in one rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import circuitkit as ck
from emergence.asking import Opened

Role = Literal["base", "post"]
Ids = tuple[int, ...]
_FEWEST = 4


@dataclass(frozen=True)
class Written:
    """Pairs as token ids, which cells of a study are told apart by.

    Attributes:
        clean, corrupt: prompts of equal lengths, pair by pair.
        answer, distractor: the token that each calls for.
    """

    clean: tuple[Ids, ...]
    corrupt: tuple[Ids, ...]
    answer: Ids
    distractor: Ids

    def pairs(self) -> ck.Pairs:
        """As `ck.circuits.attribute` takes them."""
        return ck.Pairs(self.clean, self.corrupt, list(self.answer), list(self.distractor))

    def swapped(self) -> Written:
        """Clean and corrupt in each other's place."""
        return Written(self.corrupt, self.clean, self.distractor, self.answer)

    def __len__(self) -> int:
        return len(self.clean)


def openings(tokenizer: Any, base: Opened, post: Opened, tokens: int, most: int, *, thinking: bool = False) -> Written:
    """A problem and how the post-trained model begins to answer it, beside how the base does.

    Both answers are read behind the same prompt (with `thinking`, each behind its own, since it is the prompt that
    turns thinking off), and cut `tokens` tokens behind where they part, so that a pair has one length; what each calls
    for is its own next token. Problems whose answers never part, end too soon or go on with the same token are left
    out. The base's own pairs are these `swapped`.

    Raises:
        SystemExit: fewer than four are left.

    Source: "Thinking Sparks!" (arXiv 2509.25758), which states neither the length nor how pairs were made equal.
    """
    rows: list[tuple[Ids, Ids, int, int]] = []
    for prompt, other, after, before in zip(post.prompts, base.prompts, post.answers, base.answers, strict=True):
        texts = (prompt + after, (other if thinking else prompt) + before)
        clean, corrupt = (tuple(tokenizer(text)["input_ids"]) for text in texts)
        parted = next((at for at, (one, two) in enumerate(zip(clean, corrupt, strict=False)) if one != two), None)
        if parted is None or min(len(clean), len(corrupt)) <= parted + tokens:
            continue
        end = parted + tokens
        if clean[end] != corrupt[end]:
            rows.append((clean[:end], corrupt[:end], clean[end], corrupt[end]))
    if len(rows) < _FEWEST:
        raise SystemExit(
            f"of {len(post.prompts)} problems {len(rows)} have answers of base and post-trained model that part and go "
            f"on for {tokens} tokens, and {_FEWEST} are needed: ask more, or take fewer --opening-tokens"
        )
    return Written(*(tuple(column) for column in zip(*rows[:most], strict=True)))  # type: ignore[arg-type]


def deductions(tokenizer: Any, n: int, seed: int) -> Written:
    """Deductions broken off where the first rule is to be used, corrupt ones with the classes passed on: a step found.

    The same for base and post-trained model, so that what differs between their circuits is the model.
    """
    drawn = ck.tasks.deductions.pairs(tokenizer, n, seed)

    def ids(texts: Sequence[str]) -> tuple[Ids, ...]:
        return tuple(tuple(tokenizer(text)["input_ids"]) for text in texts)

    def last(texts: Sequence[str]) -> Ids:
        return tuple(tokenizer.encode(text, add_special_tokens=False)[0] for text in texts)

    return Written(ids(drawn.clean), ids(drawn.corrupt), last(drawn.answer), last(drawn.distractor))  # type: ignore[arg-type]
