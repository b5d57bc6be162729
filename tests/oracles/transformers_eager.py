"""Captures by plain forward hooks on transformers' own modules, every module path spelled out by hand."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from unittest import mock

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from . import Captures, first, kinds_of, positions

Split = Callable[[Tensor, nn.Module], tuple[Tensor, Tensor, Tensor]]


def heads_of(attention: nn.Module) -> tuple[int, int]:
    """How many query heads and key/value heads an attention module has."""
    if hasattr(attention, "num_q_heads"):
        return attention.num_q_heads, attention.num_k_heads
    if hasattr(attention, "num_kv_heads"):
        return attention.num_heads, attention.num_kv_heads
    if not hasattr(attention, "config"):  # BLOOM keeps no settings there, and has as many of each
        return attention.num_heads, attention.num_heads
    n_heads = attention.config.num_attention_heads
    return n_heads, getattr(attention.config, "num_key_value_heads", n_heads)


def split_in_thirds(fused: Tensor, attention: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
    """All queries, then all keys, then all values (GPT-2)."""
    query, key, value = (third.unflatten(-1, (attention.num_heads, -1)) for third in fused.chunk(3, dim=-1))
    return query, key, value


def split_by_kind(fused: Tensor, attention: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
    """All query heads, then fewer key heads, then as many value heads (Phi-3, OpenELM)."""
    n_heads, n_kv_heads = heads_of(attention)
    heads = fused.unflatten(-1, (n_heads + 2 * n_kv_heads, -1))
    return heads[:, :, :n_heads], heads[:, :, n_heads:-n_kv_heads], heads[:, :, -n_kv_heads:]


def split_in_each_head(fused: Tensor, attention: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
    """For each head its query, key and value (GPT-NeoX, BLOOM)."""
    n_heads = getattr(attention, "num_heads", None) or attention.config.num_attention_heads
    query, key, value = fused.unflatten(-1, (n_heads, 3, -1)).unbind(-2)
    return query, key, value


def split_in_each_group(fused: Tensor, attention: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
    """For each key/value head the queries that read it, its key and its value (Falcon)."""
    n_heads, n_kv_heads = heads_of(attention)
    groups = fused.unflatten(-1, (n_kv_heads, n_heads // n_kv_heads + 2, -1))
    return groups[..., :-2, :].flatten(2, 3), groups[..., -2, :], groups[..., -1, :]


@dataclass(frozen=True)
class Paths:
    """Where an architecture keeps its parts; all but ``embed`` and ``layers`` as seen from a layer."""

    embed: str = "model.embed_tokens"
    layers: str = "model.layers"
    attention: str = "self_attn"
    projections: tuple[str, ...] = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    split: Split | None = None
    output_projection: str = "self_attn.o_proj"
    attn_out: str = "self_attn"
    mlp_out: str = "mlp"
    reads_resid_mid: str | None = "post_attention_layernorm"


LLAMA = Paths()
GPT_NEOX = Paths(
    embed="gpt_neox.embed_in",
    layers="gpt_neox.layers",
    attention="attention",
    projections=("attention.query_key_value",),
    split=split_in_each_head,
    output_projection="attention.dense",
    attn_out="attention",
)
GEMMA = replace(
    LLAMA,
    attn_out="post_attention_layernorm",
    mlp_out="post_feedforward_layernorm",
    reads_resid_mid="pre_feedforward_layernorm",
)
PATHS: dict[str, Paths] = {
    "gpt2": Paths(
        embed="transformer.wte",
        layers="transformer.h",
        attention="attn",
        projections=("attn.c_attn",),
        split=split_in_thirds,
        output_projection="attn.c_proj",
        attn_out="attn",
        reads_resid_mid="ln_2",
    ),
    "llama": LLAMA,
    "qwen2": LLAMA,
    "qwen3": LLAMA,
    "stablelm": LLAMA,
    "mistral": LLAMA,
    "mixtral": LLAMA,
    "olmoe": LLAMA,
    "gpt_oss": LLAMA,
    "gemma2": GEMMA,
    "gemma3_text": GEMMA,
    # The feed-forward reads the stream itself: OLMo 2 norms only what a branch hands back.
    "olmo2": replace(GEMMA, reads_resid_mid="mlp"),
    "phi3": replace(LLAMA, projections=("self_attn.qkv_proj",), split=split_by_kind),
    "gpt_neox": GPT_NEOX,
    "bloom": Paths(
        embed="transformer.word_embeddings",
        layers="transformer.h",
        attention="self_attention",
        projections=("self_attention.query_key_value",),
        split=split_in_each_head,
        output_projection="self_attention.dense",
        # BLOOM's attention and feed-forward modules return the stream with their output already added.
        attn_out="self_attention.dense",
        mlp_out="mlp.dense_4h_to_h",
    ),
    "falcon": Paths(
        embed="transformer.word_embeddings",
        layers="transformer.h",
        attention="self_attention",
        projections=("self_attention.query_key_value",),
        split=split_in_each_group,
        output_projection="self_attention.dense",
        attn_out="self_attention",
        reads_resid_mid=None,
    ),
    "openelm": Paths(
        embed="transformer.token_embeddings",
        layers="transformer.layers",
        attention="attn",
        projections=("attn.qkv_proj",),
        split=split_by_kind,
        output_projection="attn.out_proj",
        attn_out="attn",
        mlp_out="ffn",
        reads_resid_mid="ffn_norm",
    ),
}


def supports(name: str) -> frozenset[str]:
    """Every kind that the architecture has."""
    return kinds_of(name)


def paths_of(model: PreTrainedModel) -> Paths:
    paths = PATHS[model.config.model_type]
    if getattr(model.config, "use_parallel_residual", False):
        return replace(paths, reads_resid_mid=None)
    return paths


@contextmanager
def eager(model: PreTrainedModel) -> Iterator[None]:
    """Explicit attention inside the block; afterwards what the model had before."""
    # The setting itself, because Falcon and remote code refuse the public setter while they read this one.
    before = model.config._attn_implementation
    model.config._attn_implementation = "eager"
    try:
        yield
    finally:
        model.config._attn_implementation = before


class Recorder:
    """Hooks on one model that write what they see, once for each forward call, into ``captures``."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.captures: Captures = {}
        self.paths = paths_of(model)
        self.layers = list(model.get_submodule(self.paths.layers))
        self.within: int | None = None
        self.model = model

    def write(self, kind: str, layer: int | None, value: Tensor) -> None:
        if (kind, layer) in self.captures:
            raise RuntimeError(f"{kind} of layer {layer} was seen twice in one forward call")
        self.captures[kind, layer] = value

    @contextmanager
    def recording(self) -> Iterator[Captures]:
        with ExitStack() as stack:
            self.on_output(stack, self.model.get_submodule(self.paths.embed), "embed", None)
            for index, layer in enumerate(self.layers):
                self.tap_layer(stack, index, layer)
            functional = torch.nn.functional
            stack.enter_context(mock.patch.object(functional, "softmax", self.softmax(functional.softmax)))
            attention = self.scaled_dot_product_attention()
            stack.enter_context(mock.patch.object(functional, "scaled_dot_product_attention", attention))
            stack.enter_context(eager(self.model))
            stack.enter_context(torch.no_grad())
            yield self.captures

    def tap_layer(self, stack: ExitStack, index: int, layer: nn.Module) -> None:
        paths = self.paths
        attention = layer.get_submodule(paths.attention)
        self.on_input(stack, layer, "resid_pre", index)
        self.on_output(stack, layer, "resid_post", index)
        if paths.reads_resid_mid is not None:
            self.on_input(stack, layer.get_submodule(paths.reads_resid_mid), "resid_mid", index)
        self.on_output(stack, layer.get_submodule(paths.attn_out), "attn_out", index)
        self.on_output(stack, layer.get_submodule(paths.mlp_out), "mlp_out", index)
        n_heads, n_kv_heads = heads_of(attention)
        heads = {"q": n_heads, "k": n_kv_heads, "v": n_kv_heads}
        self.on_input(stack, layer.get_submodule(paths.output_projection), "z", index, n_heads)
        if paths.split is None:
            for (kind, count), path in zip(heads.items(), paths.projections, strict=True):
                self.on_output(stack, layer.get_submodule(path), kind, index, count)
        else:
            fused = layer.get_submodule(paths.projections[0])
            hook = fused.register_forward_hook(self.splitting(index, attention, paths.split))
            stack.callback(hook.remove)
        enter = attention.register_forward_pre_hook(lambda module, args: setattr(self, "within", index))
        leave = attention.register_forward_hook(lambda module, args, output: setattr(self, "within", None))
        stack.callback(enter.remove)
        stack.callback(leave.remove)

    def on_output(
        self, stack: ExitStack, module: nn.Module, kind: str, layer: int | None, heads: int | None = None
    ) -> None:
        def hook(module: nn.Module, args: tuple, output: Tensor | tuple) -> None:
            value = first(output)
            self.write(kind, layer, value if heads is None else value.unflatten(-1, (heads, -1)))

        stack.callback(module.register_forward_hook(hook).remove)

    def on_input(self, stack: ExitStack, module: nn.Module, kind: str, layer: int, heads: int | None = None) -> None:
        def hook(module: nn.Module, args: tuple, kwargs: dict) -> None:
            value = first(args if args else kwargs["hidden_states"])
            self.write(kind, layer, value if heads is None else value.unflatten(-1, (heads, -1)))

        stack.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)

    def splitting(self, layer: int, attention: nn.Module, split: Split) -> Callable:
        def hook(module: nn.Module, args: tuple, output: Tensor) -> None:
            for kind, value in zip("qkv", split(output.detach().clone(), attention), strict=True):
                self.write(kind, layer, value)

        return hook

    def softmax(self, original: Callable) -> Callable:
        def recorded(scores: Tensor, *args, **kwargs) -> Tensor:
            pattern = original(scores, *args, **kwargs)
            # Experts' routers call the softmax too, but outside attention.
            if self.within is not None:
                sinks = 1 if hasattr(self.attention_within(), "sinks") else 0
                keys = scores.shape[-1] - sinks
                self.write("scores", self.within, scores[..., :keys].detach().clone())
                self.write("pattern", self.within, pattern[..., :keys].detach().clone())
            return pattern

        return recorded

    def attention_within(self) -> nn.Module:
        return self.layers[self.within].get_submodule(self.paths.attention)

    def scaled_dot_product_attention(self) -> Callable:
        def explicit(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor, dropout_p: float) -> Tensor:
            scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5 + attn_mask
            return torch.nn.functional.softmax(scores, dim=-1) @ value

        return explicit


def arguments(model: PreTrainedModel, attention_mask: Tensor, length: int) -> dict[str, Tensor]:
    """The mask, and the positions of the last ``length`` tokens where the model takes positions at all."""
    given = {"attention_mask": attention_mask}
    if "position_ids" in inspect.signature(model.forward).parameters:
        given["position_ids"] = positions(attention_mask)[:, -length:]
    return given


def capture(model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor | None = None) -> Captures:
    """Everything in one forward call with explicit attention; the model is left as it was."""
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    # Falcon takes its explicit path only when asked for attention weights; OpenELM has no such argument.
    asked = {} if model.config.model_type == "openelm" else {"output_attentions": True}
    with Recorder(model).recording() as captures:
        output = model(input_ids, **arguments(model, mask, input_ids.shape[1]), use_cache=False, **asked)
    captures["logits", None] = output.logits.detach()
    for layer, pattern in enumerate(getattr(output, "attentions", None) or ()):
        if not torch.equal(pattern, captures["pattern", layer]):
            raise RuntimeError(f"layer {layer}: the pattern returned is not the one that left the softmax")
    return captures


@dataclass(frozen=True)
class Decoded:
    """Greedy decoding: new tokens [batch, n_new], and the captures of the prompt and then of each fed token.

    ``steps[0]`` holds the whole prompt, ``steps[i]`` one position, that of new token ``i - 1``; the last new token
    is never fed. Patterns run over all keys so far, with zeros where a sliding window's cache has dropped a key;
    scores run over the keys that the cache still holds, which are the last ones.
    """

    tokens: Tensor
    steps: list[Captures]


def decode(model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor | None = None, n_new: int = 4) -> Decoded:
    """Captures of every kind while decoding ``n_new`` tokens with a cache, one token at a time."""
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    cache = DynamicCache(config=model.config)
    asked = {} if model.config.model_type == "openelm" else {"output_attentions": True}
    fed, tokens, steps = input_ids, [], []
    for _ in range(n_new):
        with Recorder(model).recording() as captures:
            given = arguments(model, mask, fed.shape[1])
            output = model(fed, **given, past_key_values=cache, use_cache=True, **asked)
        captures["logits", None] = output.logits.detach()
        for (kind, layer), value in captures.items():
            if kind == "pattern":
                dropped = mask.shape[1] - value.shape[-1]
                captures[kind, layer] = nn.functional.pad(value, (dropped, 0))
        steps.append(captures)
        fed = output.logits[:, -1:].argmax(-1)
        tokens.append(fed)
        mask = torch.cat([mask, torch.ones_like(fed)], dim=1)
    return Decoded(torch.cat(tokens, dim=1), steps)
