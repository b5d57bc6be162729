"""Captures by TransformerLens's bridge, loaded from a folder on disk, under TransformerLens's own hook names."""

from pathlib import Path

import torch
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoTokenizer

from . import Captures, kinds_of

HOOKS = {
    "resid_pre": "hook_resid_pre",
    "resid_mid": "hook_resid_mid",
    "resid_post": "hook_resid_post",
    "attn_out": "hook_attn_out",
    "mlp_out": "hook_mlp_out",
    "q": "attn.hook_q",
    "k": "attn.hook_k",
    "v": "attn.hook_v",
    "z": "attn.hook_z",
    "scores": "attn.hook_attn_scores",
    "pattern": "attn.hook_pattern",
}

#: Not ``hook_embed``: where a norm follows the embedding (BLOOM), that name stands for the norm's output.
EMBED = "embed.hook_out"

#: Architectures that TransformerLens 4.3 cannot load at all.
UNAVAILABLE = {
    "falcon": (
        "TransformerLens 4.3 cannot load Falcon's grouped-query form: its adapter takes one key/value head from "
        "multi_query although new_decoder_architecture overrides that, and cuts query_key_value into all queries, "
        "all keys and all values although each group's lie together, so loading stops in split_with_sizes; with "
        "multi_query off it loads, and its queries, keys, values and logits are silently wrong"
    ),
}

FUSED = "the adapter leaves attention to the model's own code and does not split its fused projection"
NATIVE = "the adapter leaves attention to the model's own code, whose fused kernel returns no pattern"

#: Kinds that a loaded architecture lacks, with the reason.
MISSING: dict[str, dict[str, str]] = {
    "openelm_style": {"q": FUSED, "k": FUSED, "v": FUSED, "scores": NATIVE, "pattern": NATIVE},
}

#: Kinds that agree only up to a number for each query, with the reason.
UP_TO_A_CONSTANT_PER_QUERY: dict[tuple[str, str], str] = {
    ("gpt_oss", "scores"): "read before the row's maximum, sink included, is taken off; the softmax gets the rest",
}


def supports(name: str) -> frozenset[str]:
    """The kinds that the bridge gives for an architecture of the zoo."""
    if name in UNAVAILABLE:
        return frozenset()
    return kinds_of(name) - set(MISSING.get(name, {}))


def capture(folder: Path, input_ids: Tensor, attention_mask: Tensor | None = None) -> Captures:
    """Everything in one forward call of the model saved in ``folder``, weights as they are, none folded."""
    # The tokenizer is handed over because some adapters name one on the hub (OpenELM's a Llama tokenizer).
    tokenizer = AutoTokenizer.from_pretrained(folder)
    bridge = TransformerBridge.boot_transformers(str(folder), device="cpu", dtype=torch.float32, tokenizer=tokenizer)
    with torch.no_grad():
        logits, cache = bridge.run_with_cache(input_ids, attention_mask=attention_mask, return_cache_object=False)
    captures: Captures = {("logits", None): logits, ("embed", None): cache[EMBED]}
    for layer in range(bridge.cfg.n_layers):
        for kind, hook in HOOKS.items():
            if (hook_name := f"blocks.{layer}.{hook}") in cache:
                captures[kind, layer] = cache[hook_name]
    return captures
