"""pyvene: cells side by side along the batch, each row with its own head or position, from kept clean values."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from yardstick.shapes import Prompts

import circuitkit as ck
from circuitkit.metrics import logit_difference


def cells_by(hf: Any, prompts: Prompts, over: str) -> Callable[[int, list[int]], Tensor]:
    """See `peers`.

    Raises:
        ImportError: pyvene is not installed; it is none of circuitkit's dependencies.
    """
    import pyvene

    component, unit = {"z": ("head_attention_value_output", "h"), "resid_pre": ("block_input", "pos")}[over]
    site = {"component": component, "unit": unit, "intervention_type": pyvene.VanillaIntervention}
    held = []
    for layer in range(hf.config.num_hidden_layers):
        held.append(pyvene.IntervenableModel(pyvene.IntervenableConfig([{"layer": layer, **site}]), hf))
    kept = ck.Model(hf).run(prompts.clean, capture=[over]).cache

    def cells(layer: int, ats: list[int]) -> Tensor:
        n, value = len(prompts), kept[ck.Site(over, layer=layer)]
        new = torch.cat([(value[:, :, at] if over == "z" else value[:, at])[:, None] for at in ats])
        where = [[at] for at in ats for _ in range(n)]
        [key] = held[layer].interventions
        rows = {"input_ids": prompts.corrupt.repeat(len(ats), 1)}
        _, out = held[layer](
            rows, None, {"sources->base": ([None], [where])}, source_representations={key: new.clone()}
        )
        return logit_difference(out.logits[:, -1], prompts.targets.select(torch.arange(n).repeat(len(ats))))

    return cells
