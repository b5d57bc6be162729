"""nnsight: cells side by side along one trace's batch, each edited in its own rows.

One invoke of tiled prompts, which costs nnsight less than an invoke a cell and computes the same.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from yardstick.shapes import Prompts

from circuitkit.metrics import logit_difference
from circuitkit.model.embedded import word_tokenizer


def cells_by(hf: Any, prompts: Prompts, over: str) -> Callable[[int, list[int]], Tensor]:
    """See `peers`; the last position's logits are taken from all, as its tutorials do."""
    return _cells(hf, prompts, over, {})


def cells_by_last_logits(hf: Any, prompts: Prompts, over: str) -> Callable[[int, list[int]], Tensor]:
    """See `peers`; transformers is told to compute one position's logits alone, which a user has to know of."""
    return _cells(hf, prompts, over, {"logits_to_keep": 1})


def _cells(hf: Any, prompts: Prompts, over: str, settings: dict[str, int]) -> Callable[[int, list[int]], Tensor]:
    from nnsight import TransformersModel

    traced = TransformersModel(hf, tokenizer=word_tokenizer(["a"], 1024), task="text-generation")
    gpt2 = hasattr(hf, "transformer")
    blocks = traced.transformer.h if gpt2 else traced.model.layers
    d_head = getattr(hf.config, "head_dim", None) or hf.config.hidden_size // hf.config.num_attention_heads

    def site(layer: int) -> Any:
        if over == "resid_pre":
            return blocks[layer]
        return blocks[layer].attn.c_proj if gpt2 else blocks[layer].self_attn.o_proj

    kept: list[Tensor] = []
    with traced.trace({"input_ids": prompts.clean, "attention_mask": torch.ones_like(prompts.clean)}):
        for layer in range(hf.config.num_hidden_layers):
            kept.append(site(layer).input.save())

    def cells(layer: int, ats: list[int]) -> Tensor:
        n = len(prompts)
        rows = prompts.corrupt.repeat(len(ats), 1)
        with traced.trace({"input_ids": rows, "attention_mask": torch.ones_like(rows)}, **settings):
            value = site(layer).input
            for number, at in enumerate(ats):
                mine = slice(number * n, (number + 1) * n)
                if over == "z":
                    head = slice(at * d_head, (at + 1) * d_head)
                    value[mine, :, head] = kept[layer][:, :, head]
                else:
                    value[mine, at] = kept[layer][:, at]
            logits = traced.output.logits[:, -1].save()
        return logit_difference(logits, prompts.targets.select(torch.arange(n).repeat(len(ats))))

    return cells
