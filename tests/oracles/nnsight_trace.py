"""Captures by one nnsight trace, from its own table of modules.

Where a value can be read at two ends, this reads the one that the hooks do not: a stream after a layer is what the
next layer receives, and a branch's output is that of its last projection.
"""

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from operator import attrgetter

import torch
from einops import rearrange
from nnsight import TransformersModel
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from . import Captures, kinds_of

#: Kinds that a trace doesn't give, by architecture ("*": every one), with the reason.
MISSING: dict[str, dict[str, str]] = {
    "*": {"scores": "no module takes or returns them; nnsight reaches them only by lines of rewritten source"},
    "openelm_style": {"pattern": "attention returns its output alone, and the kernel never forms the pattern"},
}

Heads = Callable[[Tensor, int, int], tuple[Tensor, Tensor, Tensor]]


def kinds_first(fused: Tensor, n_heads: int, n_kv_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    d_head = fused.shape[-1] // (n_heads + 2 * n_kv_heads)
    sizes = [n_heads * d_head, n_kv_heads * d_head, n_kv_heads * d_head]
    query, key, value = (
        rearrange(part, "batch position (head d) -> batch position head d", d=d_head)
        for part in fused.split(sizes, dim=-1)
    )
    return query, key, value


def heads_first(fused: Tensor, n_heads: int, n_kv_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    apart = "batch position (group rest d) -> rest batch position group d"
    groups = rearrange(fused, apart, group=n_kv_heads, rest=n_heads // n_kv_heads + 2)
    query = rearrange(groups[:-2], "rest batch position group d -> batch position (group rest) d")
    return query, groups[-2], groups[-1]


@dataclass(frozen=True)
class Reads:
    """What is read in each layer, in the order in which the model computes it, and how heads are laid out."""

    embed: str
    layers: str
    final_norm: str
    in_layer: dict[str, str]
    split: Heads | None = None


SEPARATE = {
    "q": "self_attn.q_proj.output",
    "k": "self_attn.k_proj.output",
    "v": "self_attn.v_proj.output",
}
LLAMA = Reads(
    embed="model.embed_tokens",
    layers="model.layers",
    final_norm="model.norm",
    in_layer={
        "resid_pre": "input",
        **SEPARATE,
        "z": "self_attn.o_proj.input",
        "attn_out": "self_attn.o_proj.output",
        "pattern": "self_attn.output",
        "resid_mid": "post_attention_layernorm.input",
        "mlp_out": "mlp.down_proj.output",
    },
)
# An expert has a last projection of its own; what is added to the stream is known only as the block returns it.
EXPERTS = replace(LLAMA, in_layer={**LLAMA.in_layer, "mlp_out": "mlp.output"})
GEMMA = replace(
    LLAMA,
    in_layer={
        "resid_pre": "input",
        **SEPARATE,
        "z": "self_attn.o_proj.input",
        "pattern": "self_attn.output",
        "attn_out": "post_attention_layernorm.output",
        "resid_mid": "pre_feedforward_layernorm.input",
        "mlp_out": "post_feedforward_layernorm.output",
    },
)
GPT_NEOX = Reads(
    embed="gpt_neox.embed_in",
    layers="gpt_neox.layers",
    final_norm="gpt_neox.final_layer_norm",
    in_layer={
        "resid_pre": "input",
        "qkv": "attention.query_key_value.output",
        "z": "attention.dense.input",
        "attn_out": "attention.dense.output",
        "pattern": "attention.output",
        "mlp_out": "mlp.dense_4h_to_h.output",
    },
    split=heads_first,
)
FALCON = Reads(
    embed="transformer.word_embeddings",
    layers="transformer.h",
    final_norm="transformer.ln_f",
    in_layer={
        "resid_pre": "input",
        "qkv": "self_attention.query_key_value.output",
        "z": "self_attention.dense.input",
        "attn_out": "self_attention.dense.output",
        "pattern": "self_attention.output",
        "mlp_out": "mlp.dense_4h_to_h.output",
    },
    split=heads_first,
)
READS: dict[str, Reads] = {
    **dict.fromkeys(("llama", "qwen2", "qwen3", "stablelm", "mistral"), LLAMA),
    **dict.fromkeys(("mixtral", "olmoe", "gpt_oss"), EXPERTS),
    **dict.fromkeys(("gemma2", "gemma3"), GEMMA),
    "olmo2": replace(GEMMA, in_layer={**GEMMA.in_layer, "resid_mid": "mlp.input"}),
    "phi3": replace(
        LLAMA,
        in_layer={
            "resid_pre": "input",
            "qkv": "self_attn.qkv_proj.output",
            **{kind: read for kind, read in LLAMA.in_layer.items() if kind not in ("resid_pre", *SEPARATE)},
        },
        split=kinds_first,
    ),
    "gpt2": Reads(
        embed="transformer.wte",
        layers="transformer.h",
        final_norm="transformer.ln_f",
        in_layer={
            "resid_pre": "input",
            "qkv": "attn.c_attn.output",
            "z": "attn.c_proj.input",
            "attn_out": "attn.c_proj.output",
            "pattern": "attn.output",
            "resid_mid": "ln_2.input",
            "mlp_out": "mlp.c_proj.output",
        },
        split=kinds_first,
    ),
    "gpt_neox": GPT_NEOX,
    "gpt_neox_sequential": replace(
        GPT_NEOX,
        in_layer={
            **{kind: read for kind, read in GPT_NEOX.in_layer.items() if kind != "mlp_out"},
            "resid_mid": "post_attention_layernorm.input",
            "mlp_out": "mlp.dense_4h_to_h.output",
        },
    ),
    "falcon": FALCON,
    "falcon_multi_query": FALCON,
    "bloom": replace(
        FALCON,
        in_layer={
            **{kind: read for kind, read in FALCON.in_layer.items() if kind != "mlp_out"},
            "resid_mid": "post_attention_layernorm.input",
            "mlp_out": "mlp.dense_4h_to_h.output",
        },
    ),
    "openelm_style": Reads(
        embed="transformer.token_embeddings",
        layers="transformer.layers",
        final_norm="transformer.norm",
        in_layer={
            "resid_pre": "input",
            "qkv": "attn.qkv_proj.output",
            "z": "attn.out_proj.input",
            "attn_out": "attn.out_proj.output",
            "resid_mid": "ffn_norm.input",
            "mlp_out": "ffn.proj_2.output",
        },
        split=kinds_first,
    ),
}


def supports(name: str) -> frozenset[str]:
    """The kinds that a trace gives for an architecture of the zoo."""
    return kinds_of(name) - set(MISSING["*"]) - set(MISSING.get(name, {}))


def head_counts(model: PreTrainedModel, layer: int) -> tuple[int, int]:
    config = model.config
    if config.model_type == "openelm":
        return config.num_query_heads[layer], config.num_kv_heads[layer]
    if config.model_type == "falcon":
        grouped = config.num_kv_heads if config.new_decoder_architecture else 1
        return config.num_attention_heads, grouped
    return config.num_attention_heads, getattr(config, "num_key_value_heads", config.num_attention_heads)


def inputs(model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor | None) -> dict[str, Tensor]:
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    batch = {"input_ids": input_ids, "attention_mask": mask}
    if "position_ids" in inspect.signature(type(model).forward).parameters:
        batch["position_ids"] = mask.cumsum(-1).sub(1).clamp(min=0)
    return batch


@torch.no_grad()
def capture(
    name: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
) -> Captures:
    """Everything in one traced forward call of a copy of the model with explicit attention."""
    model = copy.deepcopy(model)
    model.config._attn_implementation = "eager"
    reads = READS[name]
    # Without the task, nnsight asks the hub which pipeline belongs to the model.
    traced = TransformersModel(model, tokenizer=tokenizer, task="text-generation")
    batch = inputs(model, input_ids, attention_mask)
    seen: Captures = {}
    # The body stands on lines of its own because nnsight reads its source; each read is cloned at once because
    # Falcon adds the attention's output to the feed-forward's in place.
    with traced.trace(batch):
        seen["embed", None] = attrgetter(reads.embed)(traced).output.clone().save()
        for index, layer in enumerate(attrgetter(reads.layers)(traced)):
            for kind, path in reads.in_layer.items():
                value = attrgetter(path)(layer)
                if isinstance(value, tuple):
                    value = value[1] if kind == "pattern" else value[0]
                seen[kind, index] = value.clone().save()
        seen["resid_post", index] = attrgetter(reads.final_norm)(traced).input.clone().save()
        seen["logits", None] = traced.output.logits.clone().save()
    return by_head(model, reads, seen)


def by_head(model: PreTrainedModel, reads: Reads, seen: Captures) -> Captures:
    captures: Captures = {}
    apart = "batch position (head d) -> batch position head d"
    for (kind, layer), value in seen.items():
        if kind == "qkv":
            parts = reads.split(value, *head_counts(model, layer))
            captures |= {(part, layer): heads for part, heads in zip("qkv", parts, strict=True)}
        elif kind in ("q", "k", "v", "z"):
            n_heads, n_kv_heads = head_counts(model, layer)
            captures[kind, layer] = rearrange(value, apart, head=n_heads if kind in "qz" else n_kv_heads)
        else:
            captures[kind, layer] = value
        if kind == "resid_pre" and layer > 0:
            captures["resid_post", layer - 1] = value
    return captures
