"""Where GPT-2 and Llama keep the weights that a planted circuit sets."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
)

from circuitkit.model.planted.heads import HeadAxes, HeadWeights, noise_writer
from circuitkit.model.planted.stream import D_MODEL, Stream, position_codes
from circuitkit.model.planted.words import BOS_ID, N_POSITIONS, PAD_ID, VOCABULARY

N_HEADS = 8
N_KV_HEADS = 4
D_MLP = 256


class Architecture(abc.ABC):
    """A blank model of one class, and where each part of it keeps its weights."""

    axes: HeadAxes
    model: PreTrainedModel
    n_kv_heads: int
    has_position_codes: bool

    @abc.abstractmethod
    def embed(self, tokens: Float[Tensor, "vocab d_model"], stream: Stream) -> None:
        """Set the token embedding, and the position embedding where there is one."""

    @abc.abstractmethod
    def unembed(self, rows: Float[Tensor, "vocab d_model"], norm: float) -> None:
        """Set the unembedding, and the final norm to undo an expected norm of the stream."""

    @abc.abstractmethod
    def norms(self, layer: int, before_attention: float, before_mlp: float) -> None:
        """Set a layer's two norms to undo the expected norm of the stream.

        A norm divides by the stream's norm over sqrt(d_model); its gain multiplies the expected value back, so
        that heads may be written as if they read the stream itself.
        """

    @abc.abstractmethod
    def head(self, layer: int, head: int, weights: HeadWeights) -> None:
        """Set one head. Where heads share keys and values, the last one set decides them."""

    @abc.abstractmethod
    def mlp(self, layer: int, content: float, stream: Stream, generator: torch.Generator) -> None:
        """Set a random MLP that writes about one unit into `noise`."""


@dataclass
class GPT2(Architecture):
    """GPT-2: learned absolute positions, LayerNorm, fused query-key-value weights stored input first."""

    n_layers: int

    def __post_init__(self) -> None:
        self.axes = HeadAxes.learned_positions(D_MODEL // N_HEADS)
        self.n_kv_heads = N_HEADS
        self.has_position_codes = True
        config = GPT2Config(
            vocab_size=len(VOCABULARY),
            n_positions=N_POSITIONS,
            n_embd=D_MODEL,
            n_layer=self.n_layers,
            n_head=N_HEADS,
            n_inner=D_MLP,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=BOS_ID,
            eos_token_id=None,
            pad_token_id=PAD_ID,
            tie_word_embeddings=False,
        )
        self.gpt2: Any = _blank(GPT2LMHeadModel, config)
        self.model = self.gpt2

    def embed(self, tokens: Float[Tensor, "vocab d_model"], stream: Stream) -> None:
        """Set both embeddings."""
        self.gpt2.transformer.wte.weight.copy_(tokens)
        self.gpt2.transformer.wpe.weight.copy_(position_codes(N_POSITIONS) @ stream.space("position").T)

    def unembed(self, rows: Float[Tensor, "vocab d_model"], norm: float) -> None:
        """Set the unembedding and `ln_f`."""
        self.gpt2.lm_head.weight.copy_(rows)
        self.gpt2.transformer.ln_f.weight.fill_(norm / D_MODEL**0.5)

    def norms(self, layer: int, before_attention: float, before_mlp: float) -> None:
        """Set `ln_1` and `ln_2`."""
        block = self.gpt2.transformer.h[layer]
        block.ln_1.weight.fill_(before_attention / D_MODEL**0.5)
        block.ln_2.weight.fill_(before_mlp / D_MODEL**0.5)

    def head(self, layer: int, head: int, weights: HeadWeights) -> None:
        """Set a head's columns of `c_attn` and rows of `c_proj`."""
        attention, width = self.gpt2.transformer.h[layer].attn, self.axes.d_head
        for part, matrix in enumerate((weights.query, weights.key, weights.value)):
            start = part * D_MODEL + head * width
            attention.c_attn.weight[:, start : start + width] = matrix
        attention.c_proj.weight[head * width : (head + 1) * width] = weights.output

    def mlp(self, layer: int, content: float, stream: Stream, generator: torch.Generator) -> None:
        """Set `c_fc` and `c_proj`; 0.42 is the mean square of GELU under a standard normal."""
        mlp = self.gpt2.transformer.h[layer].mlp
        mlp.c_fc.weight.copy_(stream.readable() @ torch.randn(D_MODEL, D_MLP, generator=generator) / content)
        mlp.c_proj.weight.copy_(noise_writer(stream, D_MLP, generator) / (0.42 * D_MLP) ** 0.5)


@dataclass
class Llama(Architecture):
    """Llama: rotary positions, RMSNorm, grouped-query attention, gated MLP, weights stored output first."""

    n_layers: int

    def __post_init__(self) -> None:
        theta, d_head = 5e5, 64
        self.axes = HeadAxes.rotary(d_head, theta)
        self.n_kv_heads = N_KV_HEADS
        self.has_position_codes = False
        config = LlamaConfig(
            vocab_size=len(VOCABULARY),
            max_position_embeddings=N_POSITIONS,
            hidden_size=D_MODEL,
            num_hidden_layers=self.n_layers,
            num_attention_heads=N_HEADS,
            num_key_value_heads=N_KV_HEADS,
            head_dim=d_head,
            intermediate_size=D_MLP,
            rope_parameters={"rope_type": "default", "rope_theta": theta},
            bos_token_id=BOS_ID,
            eos_token_id=None,
            pad_token_id=PAD_ID,
            tie_word_embeddings=False,
        )
        self.llama: Any = _blank(LlamaForCausalLM, config)
        self.model = self.llama

    def embed(self, tokens: Float[Tensor, "vocab d_model"], stream: Stream) -> None:
        """Set the token embedding; positions come from the rotation."""
        self.llama.model.embed_tokens.weight.copy_(tokens)

    def unembed(self, rows: Float[Tensor, "vocab d_model"], norm: float) -> None:
        """Set the unembedding and the final norm."""
        self.llama.lm_head.weight.copy_(rows)
        self.llama.model.norm.weight.fill_(norm / D_MODEL**0.5)

    def norms(self, layer: int, before_attention: float, before_mlp: float) -> None:
        """Set `input_layernorm` and `post_attention_layernorm`."""
        block = self.llama.model.layers[layer]
        block.input_layernorm.weight.fill_(before_attention / D_MODEL**0.5)
        block.post_attention_layernorm.weight.fill_(before_mlp / D_MODEL**0.5)

    def head(self, layer: int, head: int, weights: HeadWeights) -> None:
        """Set a head's rows of `q_proj`, its group's rows of `k_proj` and `v_proj`, its columns of `o_proj`."""
        attention, width = self.llama.model.layers[layer].self_attn, self.axes.d_head
        own = slice(head * width, (head + 1) * width)
        group = head * N_KV_HEADS // N_HEADS
        shared = slice(group * width, (group + 1) * width)
        attention.q_proj.weight[own] = weights.query.T
        attention.k_proj.weight[shared] = weights.key.T
        attention.v_proj.weight[shared] = weights.value.T
        attention.o_proj.weight[:, own] = weights.output.T

    def mlp(self, layer: int, content: float, stream: Stream, generator: torch.Generator) -> None:
        """Set the gate, up and down projections; 0.36 is the mean square of SiLU under a standard normal."""
        mlp = self.llama.model.layers[layer].mlp
        for projection in (mlp.gate_proj, mlp.up_proj):
            reads = stream.readable() @ torch.randn(D_MODEL, D_MLP, generator=generator) / content
            projection.weight.copy_(reads.T)
        mlp.down_proj.weight.copy_((noise_writer(stream, D_MLP, generator) / (0.36 * D_MLP) ** 0.5).T)


def _blank(kind: type[PreTrainedModel], config: PreTrainedConfig) -> PreTrainedModel:
    # The class draws initial weights, all to be overwritten; the caller's random state is not ours to move.
    with torch.random.fork_rng(devices=[]):
        model: Any = kind(config)
    blank: PreTrainedModel = model.to(torch.float32).eval()
    return blank
