"""How many responses are written at a time, by the memory that they take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from circuitkit.evaluation.writing import Writing
from circuitkit.run.memory import memory

if TYPE_CHECKING:
    from circuitkit.model import Model

_BUDGET_ON_CPU = 1 << 30
_MOST_ON_CPU, _MOST_ELSEWHERE = 64, 512
_TOKENS_ON_CPU = 2048
"""Tokens of prompts that a processor reads at once: more make nothing faster."""


def rows_at_once(model: Model, writings: Sequence[Writing], budget: int | None = None) -> int:
    """Responses that fit the memory together, each as long as it may get."""
    on_cpu = model.device.type == "cpu"
    available = memory(model, budget if budget is not None or not on_cpu else _BUDGET_ON_CPU)
    longest = max(len(writing.asked.ids) + writing.room for writing in writings)
    # Once for the cache, once where it is copied, and the logits in fp32, sorted and summed where tokens are drawn.
    a_row = 2 * longest * _bytes_a_token(model) + 24 * (model.vocabulary or 0)
    return max(1, min(int(available // a_row), _MOST_ON_CPU if on_cpu else _MOST_ELSEWHERE))


def prompts_at_once(model: Model, prompts: Sequence[Sequence[int]], shared: int, budget: int | None = None) -> int:
    """How many of these prompts, the longest first, are read together, behind so many tokens that are read already."""
    on_cpu = model.device.type == "cpu"
    longest = len(prompts[0])
    read = longest - shared
    wide = 8 * model.d_model + 3 * _most(model, "intermediate_size", 4 * model.d_model)
    heads = _most(model, "num_attention_heads", 16)
    a_prompt = read * (wide + 2 * heads * longest) * model.hf.dtype.itemsize + longest * _bytes_a_token(model)
    available = memory(model, budget if budget is not None or not on_cpu else _BUDGET_ON_CPU)
    most = int(available // (2 * a_prompt))
    return max(1, min(most, _TOKENS_ON_CPU // read) if on_cpu else most)


def _bytes_a_token(model: Model) -> int:
    """What a token's keys and values take in all layers."""
    heads = _most(model, "num_attention_heads", 16)
    d_head = _most(model, "head_dim", model.d_model // heads)
    return 2 * model.n_layers * _most(model, "num_key_value_heads", heads) * d_head * int(model.hf.dtype.itemsize)


def _most(model: Model, setting: str, otherwise: int) -> int:
    """A size of the model; the largest where it differs from layer to layer."""
    size: Any = getattr(model.config, setting, None)
    return int(max(size)) if isinstance(size, list | tuple) else int(size or otherwise)
