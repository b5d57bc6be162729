"""Repeated random tokens: what followed a token before follows it again."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from circuitkit.pairs import Pairs
from circuitkit.tasks.vocabulary import opening, words_to_draw


def pairs(
    tokenizer: Any, n: int = 48, seed: int = 0, *, length: int = 12, vocabulary: Sequence[int] | None = None
) -> Pairs:
    """Draw random tokens "… A B … C D …" that are repeated up to A, and the same with A and C exchanged before.

    So B follows in the clean prompt, the answer, and D in the corrupt one, the distractor; all tokens of a prompt but
    the repeated ones differ. Each pair is drawn for itself, so there are no groups.

    Args:
        tokenizer: the model's, or None; prompts begin as its texts do.
        n: number of pairs.
        seed: of the draw.
        length: tokens that are repeated, four at least; a prompt has that many, and up to as many again.
        vocabulary: ids to draw from; all of the tokenizer's but its special ones if None.

    Raises:
        ValueError: there are fewer ids than tokens to draw, or no tokenizer and no vocabulary.

    Source: Olsson et al. 2022, arXiv 2209.11895, section "Definition of Induction Heads".

    >>> drawn = pairs(None, n=2, length=6, vocabulary=range(5, 50))
    >>> bool((drawn.clean[:, -1] == drawn.corrupt[:, -1]).all())
    True
    """
    ids, random = _enough(words_to_draw(tokenizer, vocabulary), length), Random(seed)
    before = [] if tokenizer is None else opening(tokenizer)
    rows = []
    # One place for all, so that prompts have one length and their positions mean the same.
    place = length // 2
    for _ in range(n):
        drawn = random.sample(ids, length)
        # Another pair of neighbours that shares no token with A and B.
        other = random.choice([at for at in range(length - 1) if abs(at - place) > 1])
        a, c = drawn[place], drawn[other]
        swapped = [{a: c, c: a}.get(token, token) for token in drawn]
        clean = [*before, *drawn, *drawn[:place], a]
        corrupt = [*before, *swapped, *swapped[:place], a]
        rows.append((clean, corrupt, drawn[place + 1], drawn[other + 1]))
    clean_ids, corrupt_ids, answer, distractor = (torch.tensor(column) for column in zip(*rows, strict=True))
    return Pairs(clean_ids, corrupt_ids, answer, distractor)


def repeated(
    tokenizer: Any, n: int = 8, seed: int = 0, *, length: int = 24, vocabulary: Sequence[int] | None = None
) -> Int[Tensor, "row column"]:
    """Draw rows of distinct random tokens, each said twice, behind the token that the tokenizer's texts begin with.

    Args and errors are those of `pairs`.

    >>> repeated(None, n=2, length=5, vocabulary=range(50)).shape
    torch.Size([2, 10])
    """
    ids, random = _enough(words_to_draw(tokenizer, vocabulary), length), Random(seed)
    before = [] if tokenizer is None else opening(tokenizer)
    return torch.tensor([[*before, *drawn, *drawn] for drawn in (random.sample(ids, length) for _ in range(n))])


def _enough(ids: list[int], length: int) -> list[int]:
    if not 4 <= length <= len(ids):
        raise ValueError(f"{length} different tokens are to be repeated: give 4 to {len(ids)}, as many as can be drawn")
    return ids
