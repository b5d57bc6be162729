"""Tiny random models of every architecture that is spoken for, made so that a wrong tap shows.

Weights are drawn larger than a fresh model's: attention is far from flat, norms and biases are not the
identity, attention sinks and soft-caps bite, and windows are shorter than the prompts.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from decoders.openelm_style import OpenELMConfig, OpenELMForCausalLM
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

VOCABULARY = 96
PAD, EOS, UNKNOWN = 0, 1, 2
WINDOW = 4

SPECIAL_TOKENS = {"pad_token_id": PAD, "bos_token_id": EOS, "eos_token_id": EOS}
DECODER: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    **SPECIAL_TOKENS,
}


@dataclass(frozen=True)
class Architecture:
    """How one entry of the zoo is made: the family of classes in transformers, and the settings."""

    family: str
    settings: dict[str, Any]
    config: str = "Config"
    model: str = "ForCausalLM"

    def build(self) -> PreTrainedModel:
        config = getattr(transformers, self.family + self.config)(**self.settings)
        return getattr(transformers, self.family + self.model)(config)


FALCON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "alibi": False,
    "bias": True,
    **SPECIAL_TOKENS,
}
NEOX = {name: value for name, value in DECODER.items() if name != "num_key_value_heads"}

ZOO: dict[str, Architecture] = {
    "gpt2": Architecture(
        "GPT2",
        {
            "vocab_size": VOCABULARY,
            "n_embd": 32,
            "n_layer": 3,
            "n_head": 4,
            "n_positions": 64,
            **SPECIAL_TOKENS,
        },
        model="LMHeadModel",
    ),
    "llama": Architecture("Llama", DECODER),
    "qwen2": Architecture("Qwen2", DECODER),
    "qwen3": Architecture("Qwen3", {**DECODER, "head_dim": 12}),
    "stablelm": Architecture(
        "StableLm", {**DECODER, "partial_rotary_factor": 0.5, "use_qkv_bias": True, "qk_layernorm": False}
    ),
    "gemma2": Architecture(
        "Gemma2",
        {
            **DECODER,
            "num_hidden_layers": 4,
            "head_dim": 12,
            "query_pre_attn_scalar": 10,
            "sliding_window": WINDOW,
            "attn_logit_softcapping": 2.5,
            "final_logit_softcapping": 4.0,
        },
    ),
    "gemma3": Architecture(
        "Gemma3",
        {
            **DECODER,
            "num_hidden_layers": 4,
            "head_dim": 12,
            "query_pre_attn_scalar": 10,
            "sliding_window": WINDOW,
            "layer_types": ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"],
        },
        config="TextConfig",
    ),
    "mistral": Architecture("Mistral", {**DECODER, "sliding_window": WINDOW}),
    "phi3": Architecture("Phi3", DECODER),
    "gpt_neox": Architecture("GPTNeoX", {**NEOX, "use_parallel_residual": True}),
    "gpt_neox_sequential": Architecture("GPTNeoX", {**NEOX, "use_parallel_residual": False}),
    "olmo2": Architecture("Olmo2", DECODER),
    "mixtral": Architecture("Mixtral", {**DECODER, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "olmoe": Architecture("Olmoe", {**DECODER, "num_experts": 4, "num_experts_per_tok": 2}),
    "bloom": Architecture(
        "Bloom",
        {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 3, "n_head": 4, **SPECIAL_TOKENS},
    ),
    "falcon": Architecture("Falcon", {**FALCON, "new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon_multi_query": Architecture(
        "Falcon",
        {**FALCON, "new_decoder_architecture": False, "multi_query": True, "parallel_attn": True},
    ),
    "gpt_oss": Architecture(
        "GptOss",
        {
            **DECODER,
            "head_dim": 8,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "sliding_window": WINDOW,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 10000.0,
                "factor": 2.0,
                "original_max_position_embeddings": 32,
            },
        },
    ),
}

NAMES = (*ZOO, "openelm_style")


def randomise(model: PreTrainedModel, seed: int) -> None:
    """Draws every parameter anew: matrices so that activations stay near 1, vectors around their start."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(like: Tensor, scale: float) -> Tensor:
        return scale * torch.randn(like.shape, generator=generator)

    query_key = ("q_proj", "k_proj", "qkv", "c_attn", "query_key_value")
    with torch.no_grad():
        # Sorted, so that the draw does not hang on the order in which parameters are registered.
        for name, parameter in sorted(model.named_parameters()):
            if parameter.dim() == 1 or name.endswith("_bias"):
                parameter.add_(drawn(parameter, 1.0 if "sinks" in name else 0.3))
            elif "embed" in name or "wte" in name or "wpe" in name:
                scale = 1 / math.sqrt(parameter.shape[-1]) if "gemma" in model.config.model_type else 1.0
                parameter.copy_(drawn(parameter, scale))
            else:
                gain = 1.6 if any(part in name for part in query_key) else 1.0
                parameter.copy_(drawn(parameter, gain / math.sqrt(min(parameter.shape[-2:]))))


def build(name: str, seed: int = 0) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """The tiny model called ``name``, in eval mode and fp32, with a tokenizer of a word for each id."""
    if name not in NAMES:
        raise ValueError(f"no architecture is called {name!r}; there are {', '.join(NAMES)}")
    torch.manual_seed(seed)
    if name == "openelm_style":
        model: PreTrainedModel = OpenELMForCausalLM(OpenELMConfig(vocab_size=VOCABULARY, pad_token_id=PAD))
    else:
        model = ZOO[name].build()
    randomise(model, seed)
    # A random model meets the end token by chance; decoding must not stop there.
    model.generation_config.eos_token_id = None
    return model.eval().requires_grad_(False), tokenizer()


def tokenizer() -> PreTrainedTokenizerFast:
    """A token for each of ``<pad>``, ``<eos>``, ``<unk>``, ``w3``, ``w4`` …, split at blanks; pads on the left."""
    vocabulary = {"<pad>": PAD, "<eos>": EOS, "<unk>": UNKNOWN}
    vocabulary |= {f"w{index}": index for index in range(len(vocabulary), VOCABULARY)}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<eos>",
        unk_token="<unk>",
        padding_side="left",
        model_max_length=64,
    )


@dataclass(frozen=True)
class Prompts:
    """Token ids and their mask, both [batch, position], the mask 1 at real tokens."""

    input_ids: Tensor
    attention_mask: Tensor

    @property
    def real(self) -> Tensor:
        """True at real tokens, [batch, position]."""
        return self.attention_mask.bool()

    @property
    def texts(self) -> list[str]:
        """The prompts as words that the zoo's tokenizer reads back."""
        rows = zip(self.input_ids, self.real, strict=True)
        return [" ".join(f"w{token}" for token in row[real].tolist()) for row, real in rows]


def prompts(kind: str = "equal", batch: int = 3, length: int = 9, seed: int = 0) -> Prompts:
    """Random prompts without special tokens, ``"equal"`` in length or ``"left_padded"`` from unequal ones."""
    generator = torch.Generator().manual_seed(seed)
    input_ids = torch.randint(UNKNOWN + 1, VOCABULARY, (batch, length), generator=generator)
    mask = torch.ones_like(input_ids)
    if kind == "left_padded":
        # The first row is full; the others lose two tokens more each, down to two real tokens.
        for row in range(1, batch):
            mask[row, : min(2 * row + 1, length - 2)] = 0
    elif kind != "equal":
        raise ValueError(f"prompts are 'equal' or 'left_padded', not {kind!r}")
    return Prompts(input_ids.masked_fill(mask == 0, PAD), mask)


def folder(name: str, directory: Path, seed: int = 0) -> Path:
    """The model and its tokenizer saved under ``directory``, for tools that load from disk only."""
    model, words = build(name, seed)
    target = Path(directory) / name
    model.save_pretrained(target)
    words.save_pretrained(target)
    return target
