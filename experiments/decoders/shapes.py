"""Four decoders of one size: what tells their architectures apart, and feed-forward widths that make them equal.

All have three layers, a stream 64 wide, heads 16 wide, the deductors' tokenizer, tied embeddings and no dropout, and
start from weights of one spread. What is left is each family's own: Llama's rotary positions, RMS norms and SwiGLU;
GPT-2's learned positions, layer norms, biases and GELU; Gemma 2's norms before and behind every part, soft-caps, scaled
embeddings, grouped queries and GEGLU; OpenELM's head counts and feed-forward widths that grow from layer to layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from train_deductors import tokenizer
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from decoders.openelm_style import OpenELMConfig, OpenELMForCausalLM

CONTEXT = 160
"""Tokens that a model may see: a question of three hops has up to 44 and its proof up to 109."""
PARAMETERS = 115_200
WIDTH, LAYERS, HEADS, HEAD_WIDTH = 64, 3, 4, 16
SPREAD = 0.8 / WIDTH**0.5
"""Standard deviation of first weights, the deductors' own: with 0.02 models so narrow hardly begin to copy."""

# Mehta et al. 2024 (arXiv 2404.14619): from first layer to last, the share of the full width of attention grows from
# 0.5 to 1 and the feed-forward multiplier from 0.5 to 4. Here half a group's query heads are one key/value head's.
OPENELM_HEADS = [2, 4, 4]
OPENELM_GROWTH = [0.5, 2.25, 4.0]


def _special() -> dict[str, int | None]:
    words = tokenizer()
    return {
        "vocab_size": len(words),
        "pad_token_id": words.pad_token_id,
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
    }


def _llama(feed_forward: int) -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(intermediate_size=feed_forward, **_uniform(HEADS)))


def _gemma2(feed_forward: int) -> PreTrainedModel:
    return Gemma2ForCausalLM(
        Gemma2Config(
            intermediate_size=feed_forward,
            head_dim=HEAD_WIDTH,
            query_pre_attn_scalar=HEAD_WIDTH,
            # As wide as the context: in the published evaluations no prompt is longer than a window either.
            sliding_window=CONTEXT,
            **_uniform(HEADS // 2),
        )
    )


def _uniform(kv_heads: int) -> dict[str, Any]:
    return {
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": kv_heads,
        "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": True,
        "initializer_range": SPREAD,
        **_special(),
    }


def _gpt2(feed_forward: int) -> PreTrainedModel:
    return GPT2LMHeadModel(
        GPT2Config(
            n_embd=WIDTH,
            n_layer=LAYERS,
            n_head=HEADS,
            n_inner=feed_forward,
            n_positions=CONTEXT,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            initializer_range=SPREAD,
            **_special(),
        )
    )


def _openelm(feed_forward: int) -> PreTrainedModel:
    """`feed_forward` is the mean width of the layers."""
    scale = feed_forward * LAYERS / sum(OPENELM_GROWTH)
    widths = [round(scale * growth) for growth in OPENELM_GROWTH]
    return OpenELMForCausalLM(
        OpenELMConfig(
            num_transformer_layers=LAYERS,
            model_dim=WIDTH,
            head_dim=HEAD_WIDTH,
            num_query_heads=OPENELM_HEADS,
            num_kv_heads=[heads // 2 for heads in OPENELM_HEADS],
            # Half a unit more, so that a width is not cut down to the one below.
            ffn_multipliers=[(width + 0.5) / WIDTH for width in widths],
            ffn_dim_divisor=1,
            share_input_output_layers=True,
            initializer_range=SPREAD,
            max_context_length=CONTEXT,
            rope_max_length=CONTEXT,
            **_special(),
        )
    )


_MADE: dict[str, Callable[[int], PreTrainedModel]] = {
    "Llama": _llama,
    "GPT-2": _gpt2,
    "Gemma 2": _gemma2,
    "OpenELM": _openelm,
}
ARCHITECTURES = tuple(_MADE)


def parameters(model: PreTrainedModel) -> int:
    """Count a model's parameters, a tied one once."""
    return sum(parameter.numel() for parameter in model.parameters())


def feed_forward(architecture: str, wanted: int = PARAMETERS) -> int:
    """Return the feed-forward width with which an architecture comes nearest to so many parameters.

    Raises `ValueError` where the nearest is off by more than one per cent, or there is no such architecture.
    """
    if architecture not in _MADE:
        raise ValueError(f"there is no architecture {architecture!r}: there are {', '.join(ARCHITECTURES)}")
    with torch.device("meta"):
        counts = [parameters(_MADE[architecture](width)) for width in (8, 108)]
        # Weights grow in proportion to the width, but for rounding, which the neighbours are tried for.
        near = round(8 + 100 * (wanted - counts[0]) / (counts[1] - counts[0]))
        tried = {width: parameters(_MADE[architecture](width)) for width in range(max(1, near - 2), max(1, near) + 3)}
    best = min(tried, key=lambda width: abs(tried[width] - wanted))
    if abs(tried[best] - wanted) > 0.01 * wanted:
        raise ValueError(
            f"{architecture} of this width and depth has {tried[best]:,} parameters at a feed-forward width of {best}, "
            f"and not {wanted:,}: ask for another number of parameters"
        )
    return best


def new_decoder(architecture: str, seed: int, wanted: int = PARAMETERS) -> PreTrainedModel:
    """Return a decoder with random weights, fp32, of so many parameters to within one per cent.

    Raises `ValueError` where that cannot be.
    """
    width = feed_forward(architecture, wanted)
    torch.manual_seed(seed)
    return _MADE[architecture](width)
