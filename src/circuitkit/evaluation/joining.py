"""Whether a model's rows can come and go: looked at in its settings, and tried on its own numbers once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import DynamicCache

from circuitkit.evaluation.rows_cache import RowsCache
from circuitkit.run.interventions import Intervention, axis_names

if TYPE_CHECKING:
    from circuitkit.model import Model

_KEPT_WHOLE = {"full_attention", "sliding_attention"}
_tried: WeakKeyDictionary[Model, str | None] = WeakKeyDictionary()


def why_rows_stay(model: Model) -> str | None:
    """Why the rows of a model's batches cannot come and go, in words; None where they can.

    >>> why_rows_stay(ck.load("deductor-130k")) is None
    True
    """
    if model not in _tried:
        reason = _by_settings(model)
        if reason is None and model.sessions:
            # What a context holds may name positions that a try does not have.
            return None
        _tried[model] = reason or _by_trying(model)
    return _tried[model]


def _by_settings(model: Model) -> str | None:
    root: Any = model.anatomy.root
    if not model.accepts("past_key_values"):
        return "its forward takes no past_key_values"
    if getattr(root, "_is_stateful", False):
        return "it carries a state along, and not keys and values alone"
    kinds = set(getattr(model.config, "layer_types", None) or ())
    if other := sorted(kinds - _KEPT_WHOLE):
        return f"it has layers of {', '.join(other)}"
    slides = "sliding_attention" in kinds or getattr(model.config, "sliding_window", None) is not None
    if slides and not type(root).__module__.startswith("transformers.models."):
        return "it attends through a sliding window, in code of its own"
    if getattr(model.config, "num_kv_shared_layers", 0):
        return "its layers share keys and values"
    return None


def _by_trying(model: Model) -> str | None:
    """Two prompts read apart, joined, and read on, against each of them read at once."""
    last = max(2, min(model.vocabulary or 8, 64)) - 1
    rows = [[last - (3 * at + shift) % last for at in range(length)] for shift, length in ((0, 7), (1, 4))]
    try:
        with torch.no_grad():
            found, expected = _joined(model, rows), torch.cat([_at_once(model, row) for row in rows])
    except (TypeError, AttributeError, RuntimeError, ValueError, IndexError, NotImplementedError) as error:
        return f"its cache cannot be joined ({type(error).__name__}: {error})"
    close = 1e-3 if model.hf.dtype == torch.float32 else 0.1
    scale = float(expected.abs().max())
    if bool((found - expected).abs().max() > close * scale) or not bool(torch.isfinite(found).all()):
        return "with its cache joined it does not compute what it does without"
    return None


def _at_once(model: Model, row: list[int]) -> Tensor:
    ids = torch.tensor([row], device=model.device)
    logits: Tensor = model.hf(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[:, -1]
    return logits.float()


def _joined(model: Model, rows: list[list[int]]) -> Tensor:
    """The logits behind each row, whose last token is read out of a joined cache."""
    device = model.device
    caches = []
    for row in rows:
        caches.append(DynamicCache())
        ids = torch.tensor([row[:-1]], device=device)
        model.hf(input_ids=ids, attention_mask=torch.ones_like(ids), past_key_values=caches[-1], use_cache=True)
    zero = torch.tensor([0], device=device)
    cache = RowsCache(caches[0], zero.repeat(2))
    cache.put(zero + 1, caches[1], zero)
    longest = max(map(len, rows))
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device)
    arguments: dict[str, Any] = {"input_ids": torch.tensor([row[-1:] for row in rows], device=device)}
    if model.accepts("position_ids"):
        arguments["position_ids"] = mask.sum(-1, keepdim=True) - 1
    logits: Tensor = model.hf(**arguments, attention_mask=mask, past_key_values=cache, use_cache=True).logits[:, -1]
    return logits.float()


def why_rows_are_named(interventions: list[Intervention]) -> str | None:
    """Why interventions hold for the rows of one batch alone, in words; None where they hold for any rows."""
    for each in interventions:
        if each.names_rows:
            return f"the intervention at {each.site} names rows"
        if _names_columns(each):
            return f"the value for {each.site} has a column for each of the prompt's"
    return None


def _names_columns(intervention: Intervention) -> bool:
    value = intervention.value
    if not isinstance(value, Tensor) or intervention.value_positions is not None or intervention.operation == "force":
        return False
    if intervention.site.module is not None:
        # Of a module's value it is not known which axis is which.
        return value.ndim > 1
    names = axis_names(intervention.site.kind)
    axes = intervention.axes(len(names))[-value.ndim :] if value.ndim else []
    sizes = dict(zip((names[axis] for axis in axes), value.shape, strict=True))
    return any(sizes.get(name, 1) > 1 for name in ("position", "key"))
