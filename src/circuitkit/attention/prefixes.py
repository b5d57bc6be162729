"""Scores of every prefix of a proof at once, from the one pattern of the whole.

In a causal model the pattern of a prefix is the upper-left corner of the whole's. So what a token receives within each
prefix is a running sum over the rows of the whole, and what it has of others a product with the shares of all prefixes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from circuitkit.attention.reductions import Columns, FirstColumn
from circuitkit.attention.scoring import inverse
from circuitkit.model.pattern_blocks import PatternBlock, PatternBlocks


class NotCausalError(ValueError):
    """A model whose attention within a prefix is not what it is within the whole."""


def received_by_prefix(
    blocks: PatternBlocks,
    heads: Sequence[int],
    real: Bool[Tensor, "batch column"],
    n_prefixes: int,
    first_column: FirstColumn,
) -> Float[Tensor, "batch head prefix column"]:
    """What each token receives within each prefix; prefix s ends before column `-n_prefixes + s`.

    Raises:
        NotCausalError: a token attends to a later one.
    """
    start = real.shape[1] - n_prefixes
    steps: Tensor | None = None
    for block in blocks:
        columns = Columns.of(real, block.weights.device)
        weights = columns.weights(block, heads)
        _require_causal(block, weights)
        if steps is None:
            steps = weights.new_zeros(*weights.shape[:2], n_prefixes, real.shape[1])
        before = max(0, min(start, block.queries.stop) - block.queries.start)
        steps[:, :, 0, block.keys] += weights[:, :, :before].sum(-2)
        # A row counts from the first prefix that it is in, and the last one is in none.
        rows = weights[:, :, before:]
        at = block.queries.start + before - start + 1
        kept = min(rows.shape[-2], n_prefixes - at)
        if kept > 0:
            steps[:, :, at : at + kept, block.keys] += rows[:, :, :kept]
    assert steps is not None
    total = steps.cumsum(-2)
    return total.masked_fill(columns.first[:, None, None], 0.0) if first_column == "zeroed" else total


def scores_by_prefix(
    blocks: PatternBlocks,
    heads: Sequence[int],
    real: Bool[Tensor, "batch column"],
    given: Float[Tensor, "batch head prefix column"],
) -> Float[Tensor, "batch head column prefix"]:
    """The scores of `token_scores` within each prefix, NaN on padding and behind it.

    NaN throughout where all tokens of a prefix have one score.
    """
    n_prefixes, n_columns = given.shape[-2:]
    shares = inverse(given).transpose(-1, -2)
    total = given.transpose(-1, -2).clone()
    for block in blocks:
        weights = Columns.of(real, given.device).weights(block, heads)
        total[:, :, block.queries] += weights @ shares[:, :, block.keys]
    ends = torch.arange(n_columns - n_prefixes, n_columns, device=given.device)
    inside = torch.arange(n_columns, device=given.device)[:, None] < ends[None]
    inside = (inside & real.to(given.device)[:, :, None])[:, None]
    low = total.masked_fill(~inside, torch.inf).amin(-2, keepdim=True)
    high = total.masked_fill(~inside, -torch.inf).amax(-2, keepdim=True)
    return ((total - low) / (high - low)).masked_fill(~inside, torch.nan)


def _require_causal(block: PatternBlock, weights: Float[Tensor, "batch head query key"]) -> None:
    # Keys before the block's first query are behind none of its queries.
    first = max(0, block.queries.start - block.keys.start)
    later = weights[..., first:].triu(block.queries.start - block.keys.start - first + 1)
    if bool(later.any()):
        raise NotCausalError(
            "tokens attend to later ones, so the attention within a prefix is not part of that within the whole: gold "
            "scores need a causal model; score each prefix by itself with attention.scores"
        )
