"""Tensors and what is told of them, in one file that is written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from circuitkit.records import whole_file


def save(path: str | Path, kind: str, tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> Path:
    """Write tensors and JSON to one safetensors file, and give its path; a folder gets one of the kind's name.

    Raises:
        ValueError: the file has another suffix.
    """
    path = _file(path, kind)
    if path.suffix != ".safetensors":
        raise ValueError(f"{path}: this is saved as .safetensors; its table is in .frame")
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with whole_file(path) as beside:
        save_file(plain, beside, metadata={f"circuitkit.{kind}": json.dumps(told)})
    return path


def load(path: str | Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save` wrote of a kind, from its file or its folder.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is cut short, or holds something else.
    """
    path = _file(path, kind)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; save one there first")
    try:
        with safe_open(path, framework="pt") as file:
            told = (file.metadata() or {}).get(f"circuitkit.{kind}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # a file has keys, but is no mapping
    except SafetensorError as error:
        raise ValueError(
            f"{path}: cut short or not a safetensors file ({error}); make it again, or copy it whole"
        ) from error
    if told is None:
        raise ValueError(f"{path}: a safetensors file, but it holds no {kind.replace('_', ' ')}")
    return tensors, json.loads(told)


def _file(path: str | Path, kind: str) -> Path:
    path = Path(path)
    return path / f"{kind}.safetensors" if path.is_dir() or not path.suffix else path
