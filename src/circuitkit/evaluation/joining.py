"""Whether rows can come and go, and share what they begin with: looked at in settings, and tried on numbers once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache

from circuitkit.evaluation.reading import Prefix, left_padded, next_logits
from circuitkit.evaluation.rows_cache import RowsCache
from circuitkit.run.interventions import Intervention, axis_names

if TYPE_CHECKING:
    from circuitkit.model import Model

_KEPT_WHOLE = {"full_attention", "sliding_attention"}
_ALIKE = 3
"""Tokens that the prompts of a try begin with alike."""
_tried: WeakKeyDictionary[Model, str | None] = WeakKeyDictionary()
_shares: WeakKeyDictionary[Model, bool] = WeakKeyDictionary()


def why_rows_stay(model: Model) -> str | None:
    """Why the rows of a model's batches cannot come and go, in words; None where they can.

    >>> why_rows_stay(ck.load("deductor-130k")) is None
    True
    """
    if model not in _tried:
        reason = _by_settings(model)
        _tried[model] = reason or _tried_out(model, _joined)
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
    if _slides(model) and not type(root).__module__.startswith("transformers.models."):
        return "it attends through a sliding window, in code of its own"
    if (rope := _rotary_by_length(model)) is not None:
        return f"its rotary positions ({rope}) depend on the longest row of a batch"
    if getattr(model.config, "num_kv_shared_layers", 0):
        return "its layers share keys and values"
    return None


def _rotary_by_length(model: Model) -> str | None:
    """The kind of rotary scaling that looks at how long the longest row is, if a model has one."""
    told = getattr(model.config, "rope_parameters", None) or getattr(model.config, "rope_scaling", None) or {}
    # A model may have a kind of layers each with parameters of its own.
    each = [told, *(one for one in told.values() if isinstance(one, dict))]
    kinds = [one.get("rope_type", one.get("type")) for one in each]
    return next((kind for kind in kinds if kind in ("dynamic", "longrope")), None)


def _slides(model: Model) -> bool:
    kinds = getattr(model.config, "layer_types", None) or ()
    return "sliding_attention" in kinds or getattr(model.config, "sliding_window", None) is not None


def may_share_prefix(model: Model) -> bool:
    """Whether a model computes the same where prompts are read on from what they all begin with.

    >>> may_share_prefix(ck.load("deductor-130k"))
    True
    """
    if model not in _shares:
        # Between prefix and rest stands padding, by which a window would be counted too short.
        if why_rows_stay(model) is not None or _slides(model) or not model.accepts("position_ids"):
            _shares[model] = False
        else:
            _shares[model] = _tried_out(model, _read_on) is None
    return _shares[model]


def holds_alike_for_prefix(intervention: Intervention) -> bool:
    """Whether an intervention does the same to the tokens that all prompts begin with in every prompt."""
    held = intervention
    return not from_the_end(held) and held.value_positions is None and why_rows_are_named([held]) is None


def from_the_end(intervention: Intervention) -> int:
    """How many tokens before the prompt's end an intervention names one, at most; 0 where it counts from no end."""
    held = intervention
    named = (held.site.position, held.site.key, *(held.queries or ()), *(held.keys or ()))
    return max((-position for position in named if position is not None and position < 0), default=0)


def _tried_out(model: Model, read: Callable[[Model, list[list[int]]], Tensor]) -> str | None:
    if not model.sessions:
        return _why_not(model, read)
    # What a context holds may name positions that a try does not have; forwards of another thread it leaves alone.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(_why_not, model, read).result()


def _why_not(model: Model, read: Callable[[Model, list[list[int]]], Tensor]) -> str | None:
    """What comes of reading two prompts in some way, but for the last token of each, and then this, against at once."""
    last = max(2, min(model.vocabulary or 8, 64)) - 1
    rows = [[*range(_ALIKE), *(last - (3 * at + shift) % last for at in range(n))] for shift, n in ((0, 7), (1, 4))]
    try:
        with torch.no_grad():
            found, expected = read(model, rows), torch.cat([_at_once(model, row) for row in rows])
    # An architecture may refuse in any of these ways; how it did is told with the evaluation, and its rows stay.
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
    """Each row read apart, and their caches joined."""
    caches = []
    for row in rows:
        caches.append(DynamicCache())
        ids, mask = left_padded([row[:-1]], model.device)
        next_logits(model, ids, mask, mask, caches[-1])
    zero = torch.tensor([0], device=model.device)
    cache = RowsCache(caches[0], zero.repeat(2))
    cache.put(zero + 1, caches[1], zero)
    return _last(model, rows, left_padded(rows, model.device)[1], cache)


def _read_on(model: Model, rows: list[list[int]]) -> Tensor:
    """What both begin with read once, and each row from there."""
    _, mask, cache, _ = Prefix(model, tuple(rows[0][:_ALIKE])).read_on(model, [tuple(row[:-1]) for row in rows])
    return _last(model, rows, F.pad(mask, (0, 1), value=True), cache)


def _last(model: Model, rows: list[list[int]], mask: Tensor, cache: DynamicCache) -> Tensor:
    ids = torch.tensor([row[-1:] for row in rows], device=model.device)
    return next_logits(model, ids, mask, mask, cache).float()


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
