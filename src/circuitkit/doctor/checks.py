"""The checks of an examination: each measures one thing that a study takes for granted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from circuitkit.doctor.patient import Patient, UncheckedError, difference
from circuitkit.model.site import Site
from circuitkit.model.tokens import Pass, Tokens
from circuitkit.run.interventions import scale, zero
from circuitkit.run.resume import resumed, streams, whole_runs_only
from circuitkit.run.run import forward

_DECODED = 3
_PADDING = 3


@dataclass(frozen=True)
class Finding:
    """What a check measured: the worst figure, and the layer it was found in where it is one layer's."""

    figure: float
    layer: int | None = None

    @property
    def where(self) -> str:
        """The start of a sentence about it."""
        return "" if self.layer is None else f"worst in layer {self.layer}; "

    @classmethod
    def largest(cls, figures: dict[int, float]) -> Finding:
        """The worst of several layers', NaN being worse than any number."""
        layer = max(figures, key=lambda each: (figures[each] != figures[each], figures[each]))
        return cls(figures[layer], layer)


def captured(patient: Patient) -> Finding:
    """Logits of a run that captures every site, against the untouched model's."""
    return Finding(patient.apart(patient.captured.logits, patient.whole))


def explicit_attention(patient: Patient) -> Finding:
    """Logits with attention computed explicitly, against the attention that the model was loaded with."""
    return Finding(patient.apart(patient.explicit, patient.whole))


def padded(patient: Patient) -> Finding:
    """Logits of each row alone, against the same row in a left-padded batch."""
    tokens = patient.tokens
    together = patient.whole
    if not tokens.padded:
        ids = torch.nn.functional.pad(tokens.ids, (_PADDING, 0))
        mask = torch.nn.functional.pad(tokens.mask, (_PADDING, 0))
        together = forward(patient.model, Tokens(ids, mask))[:, _PADDING:]
    worst = 0.0
    for row in range(len(tokens)):
        real = tokens.mask[row]
        alone = Tokens(tokens.ids[row : row + 1, real], tokens.mask[row : row + 1, real])
        apart = difference(forward(patient.model, alone)[0], together[row, real.to(together.device)])
        worst = apart if apart != apart else max(worst, apart)
    return Finding(worst)


def cached(patient: Patient) -> Finding:
    """Logits of the last tokens decoded one by one from a KV cache, against those of the whole run."""
    model, tokens = patient.model, patient.tokens
    if not (model.accepts("use_cache") and model.accepts("past_key_values")):
        raise UncheckedError("its forward takes no past_key_values")
    width = tokens.ids.shape[1]
    first = width - _DECODED
    if first < 1 or not bool(tokens.mask[:, first - 1 :].all()):
        raise UncheckedError(f"a prompt has fewer than {_DECODED + 1} tokens")
    cache: Any = None
    worst = 0.0
    for begin, end in [(0, first), *((column, column + 1) for column in range(first, width))]:
        arguments: dict[str, Any] = {
            "input_ids": tokens.ids[:, begin:end],
            "attention_mask": tokens.mask[:, :end].long(),
            "use_cache": True,
        }
        if model.accepts("position_ids"):
            arguments["position_ids"] = tokens.positions[:, begin:end].clamp(min=0)
        if cache is not None:
            arguments["past_key_values"] = cache
        output = model.hf(**arguments)
        cache = getattr(output, "past_key_values", None)
        if cache is None:
            raise UncheckedError("its forward returns no past_key_values")
        apart = difference(output.logits[:, -1], patient.whole[:, end - 1])
        worst = apart if apart != apart else max(worst, apart)
    return Finding(worst)


class _Softmaxes(TorchFunctionMode):
    """Remembers the last softmax: all of its columns, sinks included."""

    def __init__(self) -> None:
        super().__init__()
        self.last: Tensor | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") == "softmax":
            self.last = result
        return result


def patterns(patient: Patient) -> Finding:
    """Each real query's attention to all keys, and to a sink where there is one, against one."""
    layers = patient.layers_with("pattern")
    mask = patient.tokens.mask
    figures: dict[int, float] = {}
    softmaxes = _Softmaxes()

    def sum_up(layer: int) -> Callable[[Tensor, Pass], None]:
        def act(pattern: Tensor, now: Pass) -> None:
            whole = pattern if softmaxes.last is None else softmaxes.last.reshape(*pattern.shape[:3], -1)
            sinks = whole[..., pattern.shape[-1] :].float().sum(-1)
            rows = (pattern.float().sum(-1) + sinks).transpose(1, 2)[mask.to(pattern.device)]
            seen = pattern.float().sum(-1).transpose(1, 2)[mask.to(pattern.device)]
            figures[layer] = max(float((rows - 1).abs().max()), float((seen - 1).clamp(min=0).max()))

        return act

    with softmaxes:
        patient.reading({Site("pattern", layer=layer): [sum_up(layer)] for layer in layers})
    return Finding.largest(figures)


def heads(patient: Patient) -> Finding:
    """The heads' own ways through the output projection and the norm after it, summed, against `attn_out`."""
    figures = {}
    for layer in patient.layers_with("z", "attn_out"):
        block, point = patient.model.anatomy.blocks[layer], patient.model.layers[layer].points["attn_out"]
        z = patient.value("z", layer)
        n_heads = z.shape[2]
        own, whole = patient.model.point(Site("z", layer=layer)).own, block.o

        def project(heads: Tensor, own: Any = own, whole: Any = whole) -> Tensor:
            projected: Tensor = whole(own(heads))
            return projected

        # One head at a time and the rest zero; the projection of nothing is its bias.
        alone = torch.stack([z * (torch.arange(n_heads, device=z.device) == h)[:, None] for h in range(n_heads)])
        bias = project(torch.zeros_like(z[:1, :1].flatten(2)))
        summed = sum((project(one.flatten(2)) - bias for one in alone), start=bias)
        if point.module is block.ln1_post:
            summed = point.module(summed)
        figures[layer] = patient.apart(point.view.read(summed), patient.value("attn_out", layer))
    return Finding.largest(figures)


def weighted_values(patient: Patient) -> Finding:
    """The pattern times the values, against `z`."""
    figures = {}
    for layer in patient.layers_with("pattern", "v", "z"):
        pattern, v, z = (patient.value(kind, layer) for kind in ("pattern", "v", "z"))
        v = v.repeat_interleave(z.shape[2] // v.shape[2], dim=2)
        made = torch.einsum("bhqk,bkhd->bqhd", pattern.to(v.dtype), v)
        figures[layer] = patient.apart(made, z)
    return Finding.largest(figures)


def changed_pattern(patient: Patient) -> Finding:
    """How far the logits move when one layer no longer attends to the first token: the least of all layers."""
    changes = {}
    for layer in patient.layers_with("pattern"):
        # Not the whole row scaled, which a norm after attention would take back. Every other layer explicit too, so
        # that an edit that is dropped leaves exactly nothing.
        edits = [scale("pattern", 1.0), zero(Site("pattern", layer=layer, key=0))]
        changes[layer] = patient.apart(patient.model.run(patient.tokens, edits).logits, patient.explicit)
    layer = min(changes, key=lambda each: changes[each])
    return Finding(changes[layer], layer)


def resumption(patient: Patient) -> Finding:
    """Logits of a run that begins at each layer, against the whole run's."""
    if (reason := whole_runs_only(patient.model)) is not None:
        raise UncheckedError(f"{reason}; studies fall back to whole runs")
    entering = streams(patient.model, patient.tokens)
    figures = {}
    for layer, stream in enumerate(entering):
        with resumed(patient.model, layer, stream):
            figures[layer] = patient.apart(forward(patient.model, patient.tokens), patient.whole)
    return Finding.largest(figures)


ALL: dict[str, Callable[[Patient], Finding]] = {
    "capturing leaves the logits alone": captured,
    "explicit attention equals the loaded one": explicit_attention,
    "padded equals unpadded": padded,
    "cached equals uncached": cached,
    "patterns and sinks sum to one": patterns,
    "heads sum to the attention output": heads,
    "pattern times values is z": weighted_values,
    "a changed pattern changes the logits": changed_pattern,
    "a resumed run equals a whole one": resumption,
}

MEANING: dict[str, str] = {
    "capturing leaves the logits alone": (
        "two runs of this model differ. Look for dropout, hooks of other libraries, or kernels that are not "
        "deterministic: no effect smaller than this can be measured"
    ),
    "explicit attention equals the loaded one": (
        "the attention that interventions act in is not the one that the model uses. Load it with "
        "attn_implementation='eager' or 'sdpa', or in float32, and compare"
    ),
    "padded equals unpadded": (
        "padding changes what the model computes, or it does not heed position_ids. Give prompts of equal length, or "
        "one at a time"
    ),
    "cached equals uncached": (
        "decoding from a KV cache gives other logits than a whole run: generate with use_cache=False"
    ),
    "patterns and sinks sum to one": (
        "what is captured as the pattern is no distribution: read neither pattern nor scores on this model"
    ),
    "heads sum to the attention output": (
        "z, taken apart by head, does not give what attention adds to the stream: do not read or patch single heads"
    ),
    "pattern times values is z": (
        "the values of v are not those that the pattern weighs: patch z, not v or pattern, on this model"
    ),
    "a changed pattern changes the logits": (
        "an edit of this layer's pattern has no effect: pattern, scores and knock-outs are not to be used there"
    ),
    "a resumed run equals a whole one": (
        "a layer needs more of those below than the stream: studies must not resume this model"
    ),
}
