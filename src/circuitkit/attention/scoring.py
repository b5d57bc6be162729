"""Tokens scored by the attention that they receive, after Kang & Shin."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def token_scores(
    pattern: Float[Tensor, "*heads query key"],
    *,
    first_column: Literal["zeroed", "kept"] = "zeroed",
    real: Bool[Tensor, " key"] | None = None,
) -> Float[Tensor, "*heads key"]:
    """Score each token by the attention that it receives, and by that of the tokens that it attends to; in [0, 1].

    With A the pattern, G_j = Σ_i A_ij is what token j receives. B = A·diag(G), its columns divided by their sums, gives
    P_i = Σ_j B'_ij; the score is G + P, scaled to run from 0 to 1 over the tokens. Column j of B sums to G_j², so that
    P_i is Σ_j A_ij / G_j over the tokens that receive anything.

    Args:
        pattern: of one head, or several; rows are queries.
        first_column: "zeroed" sets G_0 = 0, as the papers' code does for GPT-2, since the first token receives what
            attention has nowhere else to put; "kept" leaves it.
        real: which tokens are not padding; padding scores NaN and takes no part.

    Raises:
        ValueError: the pattern is not square, or all tokens have one score, so that there is no scale.

    Source: Kang & Shin 2023 (SAMRank), as used by Hsiao & Dutta 2025, arXiv 2502.15120, section on attention.

    >>> token_scores(torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.2, 0.6, 0.2]])).tolist()
    [0.0, 0.8906..., 1.0]
    """
    if pattern.ndim < 2 or pattern.shape[-1] != pattern.shape[-2]:
        raise ValueError(f"a pattern is square, [… query, key], not {list(pattern.shape)}")
    if first_column not in ("zeroed", "kept"):
        raise ValueError(f"first_column is 'zeroed' or 'kept', not {first_column!r}")
    if real is not None:
        scores = torch.full_like(pattern[..., 0, :], torch.nan)
        scores[..., real] = token_scores(pattern[..., real, :][..., real], first_column=first_column)
        return scores
    pattern = pattern.float() if pattern.element_size() < 4 else pattern
    received = pattern.sum(-2)
    if first_column == "zeroed":
        received = torch.cat([torch.zeros_like(received[..., :1]), received[..., 1:]], -1)
    scores = received + (pattern @ inverse(received)[..., None]).squeeze(-1)
    low, high = scores.amin(-1, keepdim=True), scores.amax(-1, keepdim=True)
    if bool((low == high).any()):
        raise ValueError(f"all {pattern.shape[-1]} tokens have one score, so there is no scale from 0 to 1")
    return (scores - low) / (high - low)


def inverse(received: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """One over what each token receives, and 0 for one that receives nothing, which has no shares to give.

    >>> inverse(torch.tensor([0.0, 0.5])).tolist()
    [0.0, 2.0]
    """
    # Below the smallest normal number a share has no precision left, and its inverse may be infinite.
    something = received >= torch.finfo(received.dtype).tiny
    return torch.where(something, received, 1.0).reciprocal() * something
