"""How a model reads: some columns of some rows, and what all prompts begin with, such as exemplars, only once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import DynamicCache

if TYPE_CHECKING:
    from circuitkit.model import Model

_WORTH_READING = 16
"""Tokens in common from which on reading them apart spares more than it costs."""


def next_logits(model: Model, ids: Tensor, mask: Tensor, prompt: Tensor, cache: Any) -> Tensor:
    """The logits of each row's next token, `[row, vocab]`.

    Args:
        model: who reads.
        ids: the columns that the cache does not hold yet.
        mask: which columns are real tokens, those that the cache holds included.
        prompt: which of them are the prompt's.
        cache: the columns before, to which these are added.
    """
    for session in model.sessions:
        session.follow(prompt)
    arguments: dict[str, Any] = {"input_ids": ids, "attention_mask": mask.long(), "past_key_values": cache}
    if model.accepts("position_ids"):
        positions = (mask.long().cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        # A row that has ended may be computed beyond the context; nobody reads it.
        arguments["position_ids"] = positions.clamp(max=(model.context or 1 << 62) - 1)
    if model.accepts("logits_to_keep"):
        arguments["logits_to_keep"] = 1
    logits: Tensor = model.hf(**arguments, use_cache=True).logits[:, -1]
    return logits


def left_padded(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and which of them are real, `[row, column]`; padding is a token of the row's own, and is hidden."""
    width = max(map(len, prompts))
    ids = torch.tensor([[*[row[0]] * (width - len(row)), *row] for row in prompts], device=device)
    lengths = torch.tensor([len(row) for row in prompts], device=device)
    return ids, torch.arange(width, device=device) >= width - lengths[:, None]


def shared_tokens(prompts: Collection[tuple[int, ...]]) -> tuple[int, ...]:
    """What all prompts begin with; at least the last token of each is its own.

    >>> shared_tokens([(5, 6, 7, 8), (5, 6, 9), (5, 6)])
    (5,)
    """
    # What the first and the last in order share, all between them share.
    first, last = min(prompts), max(prompts)
    most = min(map(len, prompts)) - 1
    alike = next((at for at in range(most) if first[at] != last[at]), most)
    return first[:alike]


class Prefix:
    """What all prompts begin with, read once; each of them is read on from there.

    Attributes:
        ids: its tokens.
        spared: tokens of prompts that were not read, thanks to it.
    """

    def __init__(self, model: Model, ids: tuple[int, ...]) -> None:
        self.ids, self.spared = ids, -len(ids)
        self._cache = DynamicCache()
        self._ids, self._mask = left_padded([ids], model.device)
        next_logits(model, self._ids, self._mask, self._mask, self._cache)

    def read_on(self, model: Model, prompts: Sequence[tuple[int, ...]]) -> tuple[Tensor, Tensor, DynamicCache, Tensor]:
        """Read what follows in each prompt.

        Returns:
            The prompts' ids and which of them are real, `[row, column]`, where padding stands between the prefix and
            what follows it; the cache that holds them; and the logits of each one's next token, `[row, vocab]`.
        """
        rest, real = left_padded([ids[len(self.ids) :] for ids in prompts], model.device)
        mask = torch.cat([self._mask.expand(len(prompts), -1), real], dim=1)
        cache = DynamicCache()
        layers: Any = self._cache.layers
        for at, layer in enumerate(layers):
            cache.update(*(each.expand(len(prompts), -1, -1, -1) for each in (layer.keys, layer.values)), at)
        logits = next_logits(model, rest, mask, mask, cache)
        self.spared += len(self.ids) * len(prompts)
        return torch.cat([self._ids.expand(len(prompts), -1), rest], dim=1), mask, cache, logits


def prefix_of(model: Model, prompts: Collection[tuple[int, ...]]) -> Prefix | None:
    """What prompts begin with, read; None where that is too little to be worth it."""
    ids = shared_tokens(prompts) if len(prompts) > 1 else ()
    return Prefix(model, ids) if len(ids) >= _WORTH_READING else None
