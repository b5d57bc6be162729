"""TransformerLens: a whole forward a cell under one hook, as its `get_act_patch_*` run it."""

import tempfile
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer
from yardstick.shapes import Prompts

from circuitkit.metrics import logit_difference
from circuitkit.model.embedded import word_tokenizer


def cells_by(hf: Any, prompts: Prompts, over: str) -> Callable[[int, list[int]], Tensor]:
    """See `peers`."""
    from transformer_lens.model_bridge import TransformerBridge

    with tempfile.TemporaryDirectory() as folder:
        hf.config.save_pretrained(folder)
        word_tokenizer(["a"], 1024).save_pretrained(folder)
        # Read back, because TransformerLens asks a tokenizer for the name that it was loaded by.
        tokenizer = AutoTokenizer.from_pretrained(folder)
        bridge = TransformerBridge.boot_transformers(
            folder, hf_model=hf, tokenizer=tokenizer, device=str(hf.device), dtype=hf.dtype
        )
    name = "hook_resid_pre" if over == "resid_pre" else "attn.hook_z"
    kept = bridge.run_with_cache(prompts.clean, names_filter=lambda hook: hook.endswith(name))[1]

    def cell(layer: int, at: int) -> Tensor:
        hook_name = f"blocks.{layer}.{name}"

        def patch(value: Tensor, hook: Any) -> Tensor:
            if over == "z":
                value[:, :, at] = kept[hook_name][:, :, at]
            else:
                value[:, at] = kept[hook_name][:, at]
            return value

        logits = bridge.run_with_hooks(prompts.corrupt, fwd_hooks=[(hook_name, patch)])
        return logit_difference(logits[:, -1], prompts.targets)

    return lambda layer, ats: torch.cat([cell(layer, at) for at in ats])
