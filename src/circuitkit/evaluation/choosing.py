"""The next token of each row, from logits: what a row is given depends on nothing but the row."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from circuitkit.evaluation.decoding import Decoding


class Chooser:
    """Chooses the next token of each row of a batch.

    The processors are transformers' own, in the order in which its `generate` applies them, on logits in fp32.

    >>> chooser = Chooser(Decoding())
    >>> logits, ids = torch.tensor([[0.0, 2.0, 1.0]]), torch.tensor([[0]])
    >>> chooser.choose(logits, ids, torch.ones_like(ids).bool(), [Random(0)]).tolist()
    [1]
    """

    def __init__(self, decoding: Decoding) -> None:
        self.decoding = decoding
        self._penalty: Any = None
        if decoding.repetition_penalty != 1:
            self._penalty = RepetitionPenaltyLogitsProcessor(float(decoding.repetition_penalty))
        self._warpers: list[Any] = []
        if not decoding.greedy:
            self._warpers.append(TemperatureLogitsWarper(float(decoding.temperature)))
            self._warpers += [] if decoding.top_k is None else [TopKLogitsWarper(decoding.top_k)]
            self._warpers += [] if decoding.top_p == 1 else [TopPLogitsWarper(float(decoding.top_p))]
            self._warpers += [] if decoding.min_p == 0 else [MinPLogitsWarper(float(decoding.min_p))]

    def choose(
        self,
        logits: Float[Tensor, "row vocab"],
        ids: Int[Tensor, "row column"],
        mask: Bool[Tensor, "row column"],
        randoms: Sequence[Random],
    ) -> Int[Tensor, " row"]:
        """The next token of each row.

        Args:
            logits: of the token to come.
            ids: all of the row's tokens, padded anywhere.
            mask: True on real tokens.
            randoms: each row's own source of numbers; unused where the likeliest is taken.
        """
        scores = logits.float()
        if self._penalty is not None:
            scores = self._penalty(_without_padding(ids, mask), scores)
        if self.decoding.greedy:
            return scores.argmax(-1)
        for warper in self._warpers:
            scores = warper(ids, scores)
        return _drawn(scores, [random.random() for random in randoms])


def _without_padding(ids: Tensor, mask: Tensor) -> Tensor:
    """Padding replaced by the row's own last token: the pad token's id would count as a word that was said."""
    last = mask.shape[1] - 1 - mask.flip(1).long().argmax(1)
    return ids.where(mask, ids.gather(1, last[:, None]))


def _drawn(scores: Tensor, numbers: Sequence[float]) -> Tensor:
    """The tokens at which the probabilities, summed in the vocabulary's order, pass each row's number in [0, 1)."""
    sums = scores.softmax(-1, dtype=torch.float64).cumsum(-1)
    wanted = torch.tensor(numbers, dtype=torch.float64, device=sums.device)[:, None] * sums[:, -1:]
    # Rounding may put the number at the very end, where a token of no probability may stand.
    highest = (sums < sums[:, -1:]).sum(-1)
    return torch.searchsorted(sums, wanted, right=True)[:, 0].minimum(highest)
