"""Tiny random checkpoints of every architecture, written as one wishes: in which dtype, shards and names."""

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

import architectures
import circuitkit as ck
from architectures import DECODER, SPECIAL_TOKENS, VOCABULARY, Architecture

EXPERTS = {**DECODER, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
SHORT = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64, **SPECIAL_TOKENS}
MORE: dict[str, Architecture] = {
    "gpt_bigcode": Architecture("GPTBigCode", {**SHORT, "multi_query": True}),
    "gpt_bigcode_multi_head": Architecture("GPTBigCode", {**SHORT, "multi_query": False}),
    "codegen": Architecture("CodeGen", {**SHORT, "rotary_dim": 4, "tie_word_embeddings": False}),
    "mpt": Architecture(
        "Mpt",
        {"vocab_size": VOCABULARY, "d_model": 32, "n_layers": 3, "n_heads": 4, "max_seq_len": 64, **SPECIAL_TOKENS},
    ),
    "falcon_multi_head": Architecture("Falcon", {**architectures.FALCON, "multi_query": False, "parallel_attn": False}),
    "glm": Architecture("Glm", {**DECODER, "head_dim": 8}),
    "glm4": Architecture("Glm4", {**DECODER, "head_dim": 8}),
    "qwen2_moe": Architecture("Qwen2Moe", {**EXPERTS, "shared_expert_intermediate_size": 16}),
    "qwen3_moe": Architecture("Qwen3Moe", {**EXPERTS, "head_dim": 8}),
    "gptj": Architecture("GPTJ", {**SHORT, "rotary_dim": 4, "tie_word_embeddings": False}),
    "opt": Architecture(
        "OPT",
        {
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "ffn_dim": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "max_position_embeddings": 64,
            "word_embed_proj_dim": 32,
            **SPECIAL_TOKENS,
        },
    ),
}
"""Architectures beside those of `architectures.ZOO`, for what they fuse."""

NAMES = (*architectures.NAMES, *MORE)


def built(
    architecture: str, *, dtype: torch.dtype = torch.float32, tied: bool | None = None, seed: int = 0, **settings: Any
) -> PreTrainedModel:
    """A tiny random model in eval mode.

    Args:
        architecture: one of `NAMES`.
        dtype: of its weights.
        tied: its embedding with its unembedding; as the architecture has it, if None.
        seed: of its weights.
        settings: of its config, over those of the zoo.
    """
    if tied is not None:
        settings["tie_word_embeddings"] = tied
    if architecture == "openelm_style":
        model = architectures.build(architecture, seed)[0]
    else:
        made = (architectures.ZOO | MORE)[architecture]
        torch.manual_seed(seed)
        model = replace(made, settings={**made.settings, **settings}).build()
        architectures.randomise(model, seed)
    return model.to(dtype).eval().requires_grad_(False)


def written(
    architecture: str,
    folder: Path,
    *,
    dtype: torch.dtype = torch.float32,
    shards: int = 1,
    tied: bool | None = None,
    seed: int = 0,
    **settings: Any,
) -> Path:
    """A tiny random model's folder as transformers saves it, with a tokenizer.

    Args:
        architecture: one of `NAMES`.
        folder: where to.
        dtype, tied, seed, settings: see `built`.
        shards: about how many files the weights are in.
    """
    model = built(architecture, dtype=dtype, tied=tied, seed=seed, **settings)
    save(model, folder, shards=shards)
    architectures.tokenizer().save_pretrained(folder)
    return folder


def save(model: PreTrainedModel, folder: Path, *, shards: int = 1) -> None:
    """A model saved as transformers does, in about so many shards."""
    size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    model.save_pretrained(folder, max_shard_size=size + 4096 if shards == 1 else max(1, size // shards))


def restored(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Path:
    """A folder whose weights, all in one file, are stored as something made of them."""
    file = folder / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
    save_file({name: tensor.contiguous() for name, tensor in change(tensors).items()}, file, metadata={"format": "pt"})
    return folder


def copied(folder: Path, to: Path) -> Path:
    """A folder once more, to be spoiled."""
    shutil.copytree(folder, to)
    return to


def configured(folder: Path, **settings: Any) -> Path:
    """A folder whose config says something else."""
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | settings))
    return folder


def model(architecture: str, **settings: Any) -> ck.Model:
    """A tiny random model with its map of sites."""
    return ck.Model(built(architecture, **settings), architectures.tokenizer(), name=architecture)


def ids(kind: str = "equal") -> Tensor:
    """Token ids of a few prompts, `[batch, position]`."""
    return architectures.prompts(kind).input_ids


def equal(left: Iterable[tuple[str, Tensor]], right: Iterable[tuple[str, Tensor]]) -> bool:
    """Whether named tensors are the same, bit for bit."""
    one, other = dict(left), dict(right)
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )
