"""How one would compare and merge two checkpoints without a tool, or with the usual ones."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

ROLES = ["attention", "mlp", "norm", "embed", "lm_head"]
Norms = dict[str, tuple[float, float]]
"""By tensor, the norm of the difference, and the cosine."""


def shards(folder: Path) -> list[Path]:
    """The files of weights."""
    return sorted(folder.glob("*.safetensors"))


def weights(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Every tensor with its name, one at a time."""
    for path in shards(folder):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  # a file has keys, but is no mapping
                yield name, file.get_tensor(name)


def weight(folder: Path, name: str) -> Tensor:
    """One tensor."""
    file = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"][name]
    with safe_open(folder / file, framework="pt") as opened:
        return opened.get_tensor(name)


def norms_by_tensor(a: Path, b: Path) -> Norms:
    """Read a tensor of each, and take norms and cosine in float32."""
    return {name: compared(one, other) for (name, one), (_, other) in zip(weights(a), weights(b), strict=True)}


def norms_by_dicts(a: Path, b: Path) -> Norms:
    """Load all tensors of both, then compare."""
    one, other = (
        {name: held for path in shards(folder) for name, held in load_file(path).items()} for folder in (a, b)
    )
    return {name: compared(held, other[name]) for name, held in one.items()}


def norms_by_models(a: Path, b: Path) -> Norms:
    """Load both models, then compare their parameters."""
    one, other = (AutoModelForCausalLM.from_pretrained(folder, dtype="auto") for folder in (a, b))
    parameters = dict(other.named_parameters())
    with torch.no_grad():
        return {name: compared(held, parameters[name]) for name, held in one.named_parameters()}


def merged_by_models(a: Path, b: Path, out: Path) -> None:
    """Load both models, copy o_proj, and save."""
    one, other = (AutoModelForCausalLM.from_pretrained(folder, dtype="auto") for folder in (a, b))
    parameters = dict(other.named_parameters())
    with torch.no_grad():
        for name, held in one.named_parameters():
            if "o_proj" in name:
                held.copy_(parameters[name])
    one.save_pretrained(out)
    synced(out)


def merged_by_tensors(a: Path, b: Path, out: Path) -> None:
    """Read a tensor at a time and write a shard at a time, as mergekit does."""
    out.mkdir()
    where = json.loads((b / "model.safetensors.index.json").read_text())["weight_map"]
    for path in shards(a):
        held: dict[str, Tensor] = {}
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  # as above
                held[name] = file.get_tensor(name)
                if "o_proj" in name:
                    with safe_open(b / where[name], framework="pt") as other:
                        held[name] = other.get_tensor(name)
        save_file(held, out / path.name, metadata={"format": "pt"})
    for path in a.glob("*.json"):
        shutil.copyfile(path, out / path.name)
    synced(out)


def copied(a: Path, out: Path) -> None:
    """Copy a folder as the system does it, and wait until it is on the disk."""
    shutil.copytree(a, out)
    synced(out)


def synced(folder: Path) -> None:
    """Wait until a folder's files are on the disk."""
    for path in (*folder.iterdir(), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def compared(a: Tensor, b: Tensor, dtype: torch.dtype = torch.float32) -> tuple[float, float]:
    """Norm of the difference, and cosine, of whole tensors in some precision."""
    one, other = a.flatten().to(dtype), b.flatten().to(dtype)
    moved = (other - one).norm()
    return float(moved), float(torch.dot(one, other) / (one.norm() * other.norm()))
