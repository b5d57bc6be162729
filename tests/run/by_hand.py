"""Interventions by brute force: plain hooks on plain modules, module paths spelled out, nothing of the package.

An edit is a function from a site's whole tensor to the tensor that goes on in its place.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from unittest import mock

import torch
from torch import Tensor, nn

from oracles.transformers_eager import Paths, arguments, eager, heads_of, paths_of

Edit = Callable[[Tensor], Tensor]
Edits = Mapping[tuple[str, int | None], Edit]

INPUTS = {"resid_pre": "", "z": "output_projection"}
OUTPUTS = {"resid_post": "", "attn_out": "attn_out", "mlp_out": "mlp_out"}


def logits(model: nn.Module, input_ids: Tensor, attention_mask: Tensor | None, edits: Edits) -> Tensor:
    """Logits [batch, position, vocab] of one uncached forward with explicit attention and the edits in it."""
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    asked = {} if model.config.model_type == "openelm" else {"output_attentions": True}
    with edited(model, edits), eager(model):
        given = arguments(model, mask, input_ids.shape[1])
        return model(input_ids, **given, use_cache=False, **asked).logits


@contextmanager
def edited(model: nn.Module, edits: Edits) -> Iterator[None]:
    paths = paths_of(model)
    layers = list(model.get_submodule(paths.layers))
    with ExitStack() as stack:
        for (kind, layer), edit in edits.items():
            if kind == "embed":
                _on_output(stack, model.get_submodule(paths.embed), edit)
            elif kind in ("q", "k", "v"):
                _on_projection(stack, layers[layer], paths, kind, edit)
            elif kind == "resid_mid":
                _on_stream(stack, layers[layer], paths, edit)
            elif kind in ("scores", "pattern"):
                _on_attention(stack, layers[layer].get_submodule(paths.attention), kind, edit)
            elif kind in INPUTS:
                part = getattr(paths, INPUTS[kind], "") if INPUTS[kind] else ""
                n_heads = heads_of(layers[layer].get_submodule(paths.attention))[0] if kind == "z" else None
                _on_input(stack, layers[layer].get_submodule(part), edit, n_heads)
            else:
                part = getattr(paths, OUTPUTS[kind]) if OUTPUTS[kind] else ""
                _on_output(stack, layers[layer].get_submodule(part), edit)
        yield


def _as_heads(edit: Edit, n_heads: int | None) -> Edit:
    return edit if n_heads is None else lambda joined: edit(joined.unflatten(-1, (n_heads, -1))).flatten(-2)


def _on_output(stack: ExitStack, module: nn.Module, edit: Edit) -> None:
    def hook(module, args, output):
        if isinstance(output, tuple):
            return (edit(output[0].clone()), *output[1:])
        return edit(output.clone())

    stack.callback(module.register_forward_hook(hook).remove)


def _on_input(stack: ExitStack, module: nn.Module, edit: Edit, n_heads: int | None) -> None:
    def hook(module, args, kwargs):
        if args:
            return (_as_heads(edit, n_heads)(args[0].clone()), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": _as_heads(edit, n_heads)(kwargs["hidden_states"].clone())}

    stack.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)


def _on_projection(stack: ExitStack, layer: nn.Module, paths: Paths, kind: str, edit: Edit) -> None:
    attention = layer.get_submodule(paths.attention)
    n_heads, n_kv_heads = heads_of(attention)
    if paths.split is None:
        module = layer.get_submodule(paths.projections["qkv".index(kind)])
        _on_output(stack, module, _as_heads(edit, n_heads if kind == "q" else n_kv_heads))
        return
    split = paths.split

    def fused(output: Tensor) -> Tensor:
        columns = torch.arange(output.shape[-1], dtype=torch.float32)[None, None]
        where = split(columns, attention)["qkv".index(kind)].long().flatten()
        new = edit(split(output, attention)["qkv".index(kind)])
        output = output.clone()
        output[..., where] = new.flatten(-2)
        return output

    _on_output(stack, layer.get_submodule(paths.projections[0]), fused)


def _on_stream(stack: ExitStack, layer: nn.Module, paths: Paths, edit: Edit) -> None:
    """The stream between attention and MLP is what entered plus what attention adds: so add what makes it new."""
    entered = []
    _on_input(stack, layer, lambda stream: entered.append(stream) or stream, None)

    def shift(attn_out: Tensor) -> Tensor:
        before = entered.pop()
        return edit(before + attn_out) - before

    _on_output(stack, layer.get_submodule(paths.attn_out), shift)


def _on_attention(stack: ExitStack, attention: nn.Module, kind: str, edit: Edit) -> None:
    within = []
    stack.callback(attention.register_forward_pre_hook(lambda module, args: within.append(1)).remove)
    stack.callback(attention.register_forward_hook(lambda module, args, output: within.clear()).remove)
    functional = torch.nn.functional
    softmax, fused = functional.softmax, functional.scaled_dot_product_attention
    n_sinks = 1 if hasattr(attention, "sinks") else 0

    def on_keys(whole: Tensor) -> Tensor:
        keys = whole.shape[-1] - n_sinks
        return torch.cat([edit(whole[..., :keys].clone()), whole[..., keys:]], dim=-1)

    def edited_softmax(scores: Tensor, *args, **kwargs) -> Tensor:
        if not within:
            return softmax(scores, *args, **kwargs)
        pattern = softmax(on_keys(scores) if kind == "scores" else scores, *args, **kwargs)
        return on_keys(pattern) if kind == "pattern" else pattern

    def explicit(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor, dropout_p: float) -> Tensor:
        if not within:
            return fused(query, key, value, attn_mask=attn_mask)
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5 + attn_mask
        return functional.softmax(scores, dim=-1) @ value

    stack.enter_context(mock.patch.object(functional, "softmax", edited_softmax))
    stack.enter_context(mock.patch.object(functional, "scaled_dot_product_attention", explicit))
