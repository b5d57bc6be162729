"""TransformerLens: a whole forward a cell under one hook, as its `get_act_patch_*` run it."""

import copy
import tempfile
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer
from yardstick.shapes import Prompts

from circuitkit.metrics import logit_difference
from circuitkit.model.embedded import word_tokenizer


def bridge_over(hf: Any) -> Any:
    """A bridge over a model's weights, which it changes the modules of."""
    from transformer_lens.model_bridge import TransformerBridge

    with tempfile.TemporaryDirectory() as folder:
        hf.config.save_pretrained(folder)
        word_tokenizer(["a"], 1024).save_pretrained(folder)
        # Read back, because TransformerLens asks a tokenizer for the name that it was loaded by.
        tokenizer = AutoTokenizer.from_pretrained(folder)
        return TransformerBridge.boot_transformers(
            folder, hf_model=hf, tokenizer=tokenizer, device=str(hf.device), dtype=hf.dtype
        )


def edge_scores_by(hf: Any, prompts: Prompts) -> Callable[[int], dict[tuple[Any, Any], float]]:
    """Plain EAP's scores of one pair by `tools.analysis.attribution_patching`, which takes pairs one at a time.

    It takes the gradient in the run that it calls corrupt and the difference towards the other: handed the runs the
    other way round, it gives minus what EAP does.
    """
    from transformer_lens.tools.analysis.attribution_patching import EdgeAttributionConfig, attribution_patch

    # It differentiates at sites that have no gradient where weights ask for none.
    bridge = bridge_over(copy.deepcopy(hf).requires_grad_(True))
    config = EdgeAttributionConfig(granularity="edge")

    def of_pair(row: int) -> dict[tuple[Any, Any], float]:
        targets = prompts.targets.select(torch.tensor([row]))
        found = attribution_patch(
            bridge,
            prompts.corrupt[row : row + 1],
            prompts.clean[row : row + 1],
            lambda logits: logit_difference(logits[:, -1], targets)[0],
            config,
        )
        scores: dict[tuple[Any, Any], float] = found.edge_scores
        return scores

    return of_pair


def cells_by(hf: Any, prompts: Prompts, over: str) -> Callable[[int, list[int]], Tensor]:
    """See `peers`."""
    bridge = bridge_over(hf)
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
