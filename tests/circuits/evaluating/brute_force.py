"""Circuits by their definition: decoders written out anew from their weights, every node's write in a dictionary.

One prompt at a time, without padding, in double precision: a loop over destinations, each with a sum over sources.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Writes = dict[str, Tensor]
"""By source, `[position, d_model]`."""


@dataclass
class Layer:
    """One layer's functions of a stream, heads apart.

    Attributes:
        q, k, v: a head's projection of a stream, with the layer's norm before it.
        attend: `z` of a query head, from its query and its key/value head's key and value.
        out: a head's part of the output projection.
        bias: what attention adds whatever its heads do.
        post: the scale of the sum of heads' parts, and the gain on it; None without a norm behind.
        mlp: what the MLP writes, from the stream that it reads.
    """

    q: Callable[[int, Tensor], Tensor]
    k: Callable[[int, Tensor], Tensor]
    v: Callable[[int, Tensor], Tensor]
    attend: Callable[[Tensor, Tensor, Tensor], Tensor]
    out: Callable[[int, Tensor], Tensor]
    bias: Tensor
    post: Callable[[Tensor], Tensor] | None
    mlp: Callable[[Tensor], Tensor]


@dataclass
class Decoder:
    embed: Callable[[Tensor], Tensor]
    layers: list[Layer]
    unembed: Callable[[Tensor], Tensor]
    n_heads: int
    n_kv_heads: int
    parallel: bool


def run(
    decoder: Decoder,
    ids: Tensor,
    inside: Callable[[str, str], bool] = lambda source, destination: True,
    replaced: Mapping[str, Tensor] | None = None,
    there: Tensor | None = None,
) -> tuple[Tensor, Writes]:
    """Logits `[position, vocab]` of a prompt, and what every source wrote.

    Args:
        inside: whether an edge is in the circuit.
        replaced: what edges outside carry.
        there: positions at which something is replaced.
    """
    writes: Writes = {"input": decoder.embed(ids)}
    biases = torch.zeros_like(writes["input"])

    def read(destination: str) -> Tensor:
        total = biases.clone()
        for source, written in writes.items():
            if inside(source, destination):
                total += written
            else:
                assert replaced is not None
                outside = replaced[source].expand_as(written)
                total += outside if there is None else torch.where(there[:, None], outside, written)
        return total

    shared = "kv" if decoder.n_kv_heads < decoder.n_heads else "h"
    group = decoder.n_heads // decoder.n_kv_heads
    for index, layer in enumerate(decoder.layers):
        keys = [layer.k(head, read(f"a{index}.{shared}{head}<k>")) for head in range(decoder.n_kv_heads)]
        values = [layer.v(head, read(f"a{index}.{shared}{head}<v>")) for head in range(decoder.n_kv_heads)]
        parts = {}
        for head in range(decoder.n_heads):
            query = layer.q(head, read(f"a{index}.h{head}<q>"))
            z = layer.attend(query, keys[head // group], values[head // group])
            parts[f"a{index}.h{head}"] = layer.out(head, z)
        scale = 1.0 if layer.post is None else layer.post(sum(parts.values()))
        heads = {name: part * scale for name, part in parts.items()}
        if decoder.parallel:
            heads |= {f"m{index}": layer.mlp(read(f"m{index}"))}
            biases = biases + layer.bias
            writes |= heads
            continue
        writes |= heads
        biases = biases + layer.bias
        writes[f"m{index}"] = layer.mlp(read(f"m{index}"))
    return decoder.unembed(read("logits")), writes


# The decoders


def decoder_of(name: str, hf: torch.nn.Module) -> Decoder:
    weights = {key: value.double() for key, value in hf.state_dict().items()}
    return {"gpt2": _gpt2, "llama": _llama, "gemma2": _gemma2, "gpt_neox": _gpt_neox}[name](weights, hf.config)


def _layer_norm(weights: Mapping[str, Tensor], name: str, eps: float) -> Callable[[Tensor], Tensor]:
    return lambda x: F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], eps)


def _rms(gain: Tensor, eps: float) -> Callable[[Tensor], Tensor]:
    return lambda x: gain * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


def _pattern(scores: Tensor, window: int | None = None) -> Tensor:
    n = len(scores)
    behind = torch.arange(n)[:, None] - torch.arange(n)
    hidden = (behind < 0) | (behind >= (window or n))
    return scores.masked_fill(hidden, -torch.inf).softmax(-1)


def _rotated(x: Tensor, base: float, part: int | None = None) -> Tensor:
    """Rotary positions in the halves convention, on the first `part` numbers."""
    part = part or x.shape[-1]
    rotated, rest = x[:, :part], x[:, part:]
    angles = torch.arange(len(x)).double()[:, None] / base ** (torch.arange(0, part, 2).double() / part)
    cos, sin = angles.cos().repeat(1, 2), angles.sin().repeat(1, 2)
    first, second = rotated.chunk(2, dim=-1)
    return torch.cat([rotated * cos + torch.cat([-second, first], -1) * sin, rest], -1)


def _gpt2(weights: Mapping[str, Tensor], config) -> Decoder:
    d, n_heads = config.n_embd, config.n_head
    d_head = d // n_heads

    def layer(index: int) -> Layer:
        own = f"transformer.h.{index}"
        ln1 = _layer_norm(weights, f"{own}.ln_1", config.layer_norm_epsilon)
        ln2 = _layer_norm(weights, f"{own}.ln_2", config.layer_norm_epsilon)
        qkv, qkv_bias = weights[f"{own}.attn.c_attn.weight"], weights[f"{own}.attn.c_attn.bias"]

        def project(third: int) -> Callable[[int, Tensor], Tensor]:
            def of(head: int, stream: Tensor) -> Tensor:
                columns = slice(third * d + head * d_head, third * d + (head + 1) * d_head)
                return ln1(stream) @ qkv[:, columns] + qkv_bias[columns]

            return of

        def mlp(stream: Tensor) -> Tensor:
            hidden = ln2(stream) @ weights[f"{own}.mlp.c_fc.weight"] + weights[f"{own}.mlp.c_fc.bias"]
            act = F.gelu(hidden, approximate="tanh")
            return act @ weights[f"{own}.mlp.c_proj.weight"] + weights[f"{own}.mlp.c_proj.bias"]

        out = weights[f"{own}.attn.c_proj.weight"]
        return Layer(
            project(0),
            project(1),
            project(2),
            lambda q, k, v: _pattern(q @ k.T / math.sqrt(d_head)) @ v,
            lambda head, z: z @ out[head * d_head : (head + 1) * d_head],
            weights[f"{own}.attn.c_proj.bias"],
            None,
            mlp,
        )

    final = _layer_norm(weights, "transformer.ln_f", config.layer_norm_epsilon)
    return Decoder(
        lambda ids: weights["transformer.wte.weight"][ids] + weights["transformer.wpe.weight"][: len(ids)],
        [layer(index) for index in range(config.n_layer)],
        lambda stream: final(stream) @ weights["lm_head.weight"].T,
        n_heads,
        n_heads,
        False,
    )


def _sliced(weight: Tensor, width: int, norm: Callable[[Tensor], Tensor]) -> Callable[[int, Tensor], Tensor]:
    return lambda head, stream: norm(stream) @ weight[head * width : (head + 1) * width].T


def _llama(weights: Mapping[str, Tensor], config) -> Decoder:
    d_head = config.hidden_size // config.num_attention_heads
    base = config.rope_parameters["rope_theta"]

    def layer(index: int) -> Layer:
        own = f"model.layers.{index}"
        ln1 = _rms(weights[f"{own}.input_layernorm.weight"], config.rms_norm_eps)
        ln2 = _rms(weights[f"{own}.post_attention_layernorm.weight"], config.rms_norm_eps)

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return _pattern(_rotated(q, base) @ _rotated(k, base).T / math.sqrt(d_head)) @ v

        def mlp(stream: Tensor) -> Tensor:
            x = ln2(stream)
            gate = F.silu(x @ weights[f"{own}.mlp.gate_proj.weight"].T)
            return (gate * (x @ weights[f"{own}.mlp.up_proj.weight"].T)) @ weights[f"{own}.mlp.down_proj.weight"].T

        q, k, v = (_sliced(weights[f"{own}.self_attn.{kind}_proj.weight"], d_head, ln1) for kind in "qkv")
        out = weights[f"{own}.self_attn.o_proj.weight"]
        return Layer(
            q,
            k,
            v,
            attend,
            lambda head, z: z @ out[:, head * d_head : (head + 1) * d_head].T,
            torch.zeros(config.hidden_size).double(),
            None,
            mlp,
        )

    final = _rms(weights["model.norm.weight"], config.rms_norm_eps)
    return Decoder(
        lambda ids: weights["model.embed_tokens.weight"][ids],
        [layer(index) for index in range(config.num_hidden_layers)],
        lambda stream: final(stream) @ weights["lm_head.weight"].T,
        config.num_attention_heads,
        config.num_key_value_heads,
        False,
    )


def _gemma2(weights: Mapping[str, Tensor], config) -> Decoder:
    d_head, eps = config.head_dim, config.rms_norm_eps
    base, cap = config.rope_parameters["rope_theta"], config.attn_logit_softcapping

    def layer(index: int) -> Layer:
        own = f"model.layers.{index}"
        ln1, ln2, after = (
            1 + weights[f"{own}.{name}.weight"]
            for name in ("input_layernorm", "pre_feedforward_layernorm", "post_attention_layernorm")
        )
        after_mlp = _rms(1 + weights[f"{own}.post_feedforward_layernorm.weight"], eps)
        window = config.sliding_window if config.layer_types[index] == "sliding_attention" else None

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            scores = _rotated(q, base) @ _rotated(k, base).T / math.sqrt(config.query_pre_attn_scalar)
            return _pattern(torch.tanh(scores / cap) * cap, window) @ v

        def mlp(stream: Tensor) -> Tensor:
            x = _rms(ln2, eps)(stream)
            gate = F.gelu(x @ weights[f"{own}.mlp.gate_proj.weight"].T, approximate="tanh")
            up = x @ weights[f"{own}.mlp.up_proj.weight"].T
            return after_mlp((gate * up) @ weights[f"{own}.mlp.down_proj.weight"].T)

        first = _rms(ln1, eps)
        q, k, v = (_sliced(weights[f"{own}.self_attn.{kind}_proj.weight"], d_head, first) for kind in "qkv")
        out = weights[f"{own}.self_attn.o_proj.weight"]
        return Layer(
            q,
            k,
            v,
            attend,
            lambda head, z: z @ out[:, head * d_head : (head + 1) * d_head].T,
            torch.zeros(config.hidden_size).double(),
            lambda total: after * torch.rsqrt(total.square().mean(-1, keepdim=True) + eps),
            mlp,
        )

    final, last = _rms(1 + weights["model.norm.weight"], eps), config.final_logit_softcapping
    return Decoder(
        lambda ids: weights["model.embed_tokens.weight"][ids] * math.sqrt(config.hidden_size),
        [layer(index) for index in range(config.num_hidden_layers)],
        lambda stream: torch.tanh(final(stream) @ weights["lm_head.weight"].T / last) * last,
        config.num_attention_heads,
        config.num_key_value_heads,
        False,
    )


def _gpt_neox(weights: Mapping[str, Tensor], config) -> Decoder:
    n_heads = config.num_attention_heads
    d_head, eps = config.hidden_size // n_heads, config.layer_norm_eps
    base = config.rope_parameters["rope_theta"]
    part = int(d_head * config.rope_parameters["partial_rotary_factor"])

    def layer(index: int) -> Layer:
        own = f"gpt_neox.layers.{index}"
        ln1 = _layer_norm(weights, f"{own}.input_layernorm", eps)
        ln2 = _layer_norm(weights, f"{own}.post_attention_layernorm", eps)
        qkv = weights[f"{own}.attention.query_key_value.weight"].view(n_heads, 3, d_head, -1)
        qkv_bias = weights[f"{own}.attention.query_key_value.bias"].view(n_heads, 3, d_head)

        def project(third: int) -> Callable[[int, Tensor], Tensor]:
            return lambda head, stream: ln1(stream) @ qkv[head, third].T + qkv_bias[head, third]

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return _pattern(_rotated(q, base, part) @ _rotated(k, base, part).T / math.sqrt(d_head)) @ v

        def mlp(stream: Tensor) -> Tensor:
            up, down = (f"{own}.mlp.dense_{name}" for name in ("h_to_4h", "4h_to_h"))
            hidden = F.gelu(ln2(stream) @ weights[f"{up}.weight"].T + weights[f"{up}.bias"])
            return hidden @ weights[f"{down}.weight"].T + weights[f"{down}.bias"]

        out = weights[f"{own}.attention.dense.weight"]
        return Layer(
            project(0),
            project(1),
            project(2),
            attend,
            lambda head, z: z @ out[:, head * d_head : (head + 1) * d_head].T,
            weights[f"{own}.attention.dense.bias"],
            None,
            mlp,
        )

    final = _layer_norm(weights, "gpt_neox.final_layer_norm", eps)
    return Decoder(
        lambda ids: weights["gpt_neox.embed_in.weight"][ids],
        [layer(index) for index in range(config.num_hidden_layers)],
        lambda stream: final(stream) @ weights["lm_head.weight"].T,
        n_heads,
        n_heads,
        True,
    )
