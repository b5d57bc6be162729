"""What is made of a pattern as its blocks go by: attention received, attention passed on, and the scores of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from circuitkit.attention.scoring import inverse
from circuitkit.model.pattern_blocks import PatternBlock, PatternBlocks

FirstColumn = Literal["zeroed", "kept"]


def require_first_column(first_column: str) -> None:
    """Refuse what says neither that the first token counts nor that it does not.

    Raises:
        ValueError: it is neither "zeroed" nor "kept".
    """
    if first_column not in ("zeroed", "kept"):
        raise ValueError(f"first_column is 'zeroed' or 'kept', not {first_column!r}")


@dataclass(frozen=True)
class Columns:
    """The columns of a token batch, and which of them are tokens.

    Attributes:
        real: True on real tokens.
        first: True on each row's first real token.
    """

    real: Bool[Tensor, "batch column"]
    first: Bool[Tensor, "batch column"]

    @classmethod
    def of(cls, real: Bool[Tensor, "batch column"], device: torch.device) -> Columns:
        """The columns of a mask, on a device."""
        real = real.to(device)
        return cls(real, real & (real.long().cumsum(-1) == 1))

    def weights(self, block: PatternBlock, heads: Sequence[int]) -> Float[Tensor, "batch head query key"]:
        """Some heads' rows of a block; 0 in the rows of padding, whatever they held."""
        every = list(heads) == list(range(block.weights.shape[1]))
        weights = block.weights if every else block.weights[:, list(heads)]
        queries = self.real[:, block.queries]
        return weights if bool(queries.all()) else weights.masked_fill(~queries[:, None, :, None], 0.0)


def received(
    blocks: PatternBlocks, heads: Sequence[int], real: Bool[Tensor, "batch column"], first_column: FirstColumn
) -> Float[Tensor, "batch head column"]:
    """What each token receives from all tokens, G; nothing for a row's first one unless it is kept."""
    total: Tensor | None = None
    for block in blocks:
        columns = Columns.of(real, block.weights.device)
        weights = columns.weights(block, heads)
        if total is None:
            total = weights.new_zeros(*weights.shape[:2], real.shape[1])
        total[..., block.keys] += weights.sum(-2)
    assert total is not None
    return total.masked_fill(columns.first[:, None], 0.0) if first_column == "zeroed" else total


def passed_on(
    blocks: PatternBlocks,
    heads: Sequence[int],
    real: Bool[Tensor, "batch column"],
    given: Float[Tensor, "batch head column"],
) -> Float[Tensor, "batch head column"]:
    """What each token has of the tokens that it attends to, P: of each its share of all that the token receives."""
    total, shares = torch.zeros_like(given), inverse(given)
    for block in blocks:
        weights = Columns.of(real, given.device).weights(block, heads)
        total[..., block.queries] = (weights @ shares[..., block.keys, None]).squeeze(-1)
    return total


def block_scores(
    blocks: PatternBlocks, heads: Sequence[int], real: Bool[Tensor, "batch column"], first_column: FirstColumn
) -> Float[Tensor, "batch head column"]:
    """The scores of `token_scores`, from a pattern in blocks that are gone through twice; NaN on padding.

    Raises:
        ValueError: a row's tokens all have one score; the row, counted in this batch, and the head are named.
    """
    given = received(blocks, heads, real, first_column)
    real = real.to(given.device)
    total = given + passed_on(blocks, heads, real, given)
    padding = ~real[:, None]
    low = total.masked_fill(padding, torch.inf).amin(-1, keepdim=True)
    high = total.masked_fill(padding, -torch.inf).amax(-1, keepdim=True)
    if len(flat := (low >= high)[..., 0].nonzero()):
        row, head = flat[0].tolist()
        raise ValueError(
            f"all {int(real[row].sum())} tokens of row {row} have one score in head {heads[head]}, so there is no "
            "scale from 0 to 1"
        )
    return ((total - low) / (high - low)).masked_fill(padding, torch.nan)
