"""A small random model of the same architecture, on which is found out what a config alone does not say.

Which module's output is added to the stream, how a fused projection interleaves its heads, in which order modules are
called: all of it is the same at any width, so it is read off a narrow twin that has every layer of the original.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

_D_HEAD = 16
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
_MLP_WIDTHS = ("intermediate_size", "ffn_dim", "n_inner", "moe_intermediate_size", "shared_expert_intermediate_size")
_VOCABULARY = 64


def twin_of(model: Any) -> Any:
    """A narrow random twin of a model, in evaluation mode and fp32 on the CPU, with as many layers.

    Args:
        model: a causal LM of transformers; only its class and config are read, so it may be on the meta device.

    >>> twin_of(ck.load("deductor-130k").hf).config.num_hidden_layers
    3
    """
    config = narrowed(model.config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        twin: Any = type(model)(config)
    _randomise(twin)
    return twin.float().eval()


def narrowed(config: Any) -> Any:
    """A copy of a config with a few heads, experts and words, and all layers.

    >>> narrowed(ck.load("deductor-130k").hf.config).head_dim
    16
    """
    config = copy.deepcopy(config)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    n_heads = text.num_attention_heads
    grouped = next((name for name in ("num_key_value_heads", "num_kv_heads") if _whole(text, name)), None)
    n_kv_heads = n_heads if grouped is None else getattr(text, grouped)
    few_kv_heads = min(n_kv_heads, 2)
    few_heads = few_kv_heads * min(n_heads // n_kv_heads, 2)
    sizes = {"num_attention_heads": few_heads, "hidden_size": few_heads * _D_HEAD, "vocab_size": _VOCABULARY}
    if grouped is not None:
        sizes[grouped] = few_kv_heads
    sizes |= {name: _D_HEAD for name in ("head_dim", "rotary_dim") if _whole(text, name)}
    sizes |= {name: 2 * few_heads * _D_HEAD for name in _MLP_WIDTHS if _whole(text, name)}
    sizes |= {name: min(getattr(text, name), 4) for name in _EXPERTS if _whole(text, name)}
    if _whole(text, "num_experts_per_tok"):
        sizes["num_experts_per_tok"] = min(text.num_experts_per_tok, 2)
    if _whole(text, "word_embed_proj_dim"):
        sizes["word_embed_proj_dim"] = few_heads * _D_HEAD
    for name, size in sizes.items():
        setattr(text, name, size)
    for each in (config, text):
        for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
            if getattr(each, name, None) is not None:
                setattr(each, name, 0)
        each.dtype = torch.float32
    if (vision := getattr(config, "vision_config", None)) is not None and _whole(vision, "num_hidden_layers"):
        vision.num_hidden_layers = 1
    config._attn_implementation = "eager"
    return config


def _whole(config: Any, name: str) -> bool:
    """Whether a config keeps a whole number of that name, rather than working it out from others."""
    return isinstance(getattr(config, name, None), int) and not isinstance(getattr(type(config), name, None), property)


def _randomise(model: nn.Module) -> None:
    """Draw weights so large that no branch of the model is lost in another's rounding."""
    generator = torch.Generator().manual_seed(0)

    def drawn(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator)

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.3 * drawn(parameter))
            else:
                parameter.copy_(drawn(parameter) / math.sqrt(min(parameter.shape[-2:])))


def calls_of(model: nn.Module, ids: Tensor) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Each module's input and output in the order in which a forward comes to them: path, end, shape there.

    A module that is called twice is told of twice.
    """
    calls: list[tuple[str, str, tuple[int, ...]]] = []

    def note(path: str, end: str, values: Any) -> None:
        if isinstance(values, Tensor):
            values = (values,)
        elif isinstance(values, dict):
            values = tuple(values.values())
        tensor = next((each for each in values or () if isinstance(each, Tensor)), None)
        calls.append((path, end, () if tensor is None else tuple(tensor.shape)))

    handles = []
    for path, module in model.named_modules():

        def before(module: nn.Module, args: Any, kwargs: Any, path: str = path) -> None:
            note(path, "input", (*args, *kwargs.values()))

        def after(module: nn.Module, args: Any, output: Any, path: str = path) -> None:
            note(path, "output", output)

        handles += [
            module.register_forward_pre_hook(before, with_kwargs=True),
            module.register_forward_hook(after),
        ]
    try:
        with torch.no_grad():
            model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    yield from calls
