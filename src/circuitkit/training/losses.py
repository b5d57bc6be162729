"""The loss of labelled rows: the cross-entropy of their next tokens, over a step or row by row."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

NO_LOSS = -100
"""The label of a token that carries no loss, as in transformers."""


def cross_entropy(
    logits: Float[Tensor, "row token vocab"], labels: Int[Tensor, "row token"], n_tokens: Tensor | int | None = None
) -> Float[Tensor, ""]:
    """The cross-entropy of the next tokens that carry a loss, in nats, summed and divided by a number of tokens.

    By how many of the labels carry a loss, if None.

    >>> round(cross_entropy(torch.zeros(1, 3, 8), torch.tensor([[1, -100, 2]])).item(), 4)
    2.0794
    """
    coming = labels[:, 1:].reshape(-1)
    total = functional.cross_entropy(
        logits[:, :-1].reshape(-1, logits.shape[-1]).float(), coming, ignore_index=NO_LOSS, reduction="sum"
    )
    n_tokens = (coming != NO_LOSS).sum() if n_tokens is None else n_tokens
    # A step of packed rows may have no token that carries a loss: there is nothing to learn in it.
    return total / max(n_tokens, 1)


def by_row(
    logits: Float[Tensor, "row token vocab"], labels: Int[Tensor, "row token"]
) -> tuple[Float[Tensor, " row"], Int[Tensor, " row"]]:
    """The cross-entropy of each row's next tokens in nats, summed, and how many of them carry a loss.

    >>> loss, count = by_row(torch.zeros(1, 3, 8), torch.tensor([[1, -100, 2]]))
    >>> count.item(), round(loss.item(), 4)
    (1, 2.0794)
    """
    coming = labels[:, 1:]
    # A row at a time: in fp32 the logits of a long batch are larger than the model.
    losses = [
        functional.cross_entropy(row[:-1].float(), next_token, ignore_index=NO_LOSS, reduction="sum")
        for row, next_token in zip(logits, coming, strict=True)
    ]
    return torch.stack(losses), coming.ne(NO_LOSS).sum(1)
