"""What lies in a model's folder beside its weights: config, tokenizer, generation config, index, code of its own."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from circuitkit.sfn.headers import Stored
from circuitkit.sfn.manifest import NAME as MANIFEST

_CONFIG, _INDEX = "config.json", ".safetensors.index.json"
_WEIGHTS = frozenset(
    (
        ".safetensors",
        ".bin",
        ".pt",
        ".pth",
        ".ckpt",
        ".h5",
        ".msgpack",
        ".gguf",
        ".ggml",
        ".onnx",
        ".tflite",
        ".mlmodel",
    )
)
"""Endings of weights, which are written anew or are those of another format, and would still be the base's."""

_FOLDERS = ("additional_chat_templates",)
"""Folders that belong to a tokenizer; others hold other formats or a training's own checkpoints."""


def small_files(folder: Path) -> Iterator[Path]:
    """The files of a model's folder that go with its weights, whichever they are; links count as what they lead to."""
    # Where the weights are in one file, that is what is read, whatever an index says.
    unread = (f"model{_INDEX}",) if (folder / "model.safetensors").is_file() else ()
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            if path.name in _FOLDERS:
                yield from sorted(inside for inside in path.rglob("*") if inside.is_file())
        elif path.name[0] != "." and path.name not in (MANIFEST, *unread) and not _of_weights(path.name):
            yield path


def write_small_files(
    base: Path, beside: Path, *, extra: Mapping[str, tuple[str, Stored]], config_changes: Mapping[str, Any]
) -> None:
    """Copy the small files of a base, its config and index changed where the weights ask for it.

    Args:
        base: its folder.
        beside: where to.
        extra: tensors that are in no index yet: the file that each is in, and what it is made like.
        config_changes: settings, by name.
    """
    for path in small_files(base):
        target = beside / path.relative_to(base)
        target.parent.mkdir(exist_ok=True)
        if path.name == _CONFIG and config_changes:
            _write(target, json.loads(path.read_bytes()) | dict(config_changes))
        elif path.name.endswith(_INDEX) and extra:
            _write(target, _indexed(json.loads(path.read_bytes()), extra))
        else:
            shutil.copyfile(path, target)


def _of_weights(name: str) -> bool:
    other_index = name.endswith(".index.json") and not name.endswith(_INDEX)
    return other_index or Path(name).suffix in _WEIGHTS


def _indexed(index: dict[str, Any], extra: Mapping[str, tuple[str, Stored]]) -> dict[str, Any]:
    told = dict(index.get("metadata") or {})
    likes = [like for _, like in extra.values()]
    more = {
        "total_size": sum(like.nbytes for like in likes),
        "total_parameters": sum(math.prod(like.shape) for like in likes),
    }
    told |= {name: told[name] + count for name, count in more.items() if name in told}
    files = {name: file for name, (file, _) in extra.items()}
    return index | {"metadata": told, "weight_map": index["weight_map"] | files}


def _write(path: Path, plain: Any) -> None:
    path.write_text(json.dumps(plain, indent=2, ensure_ascii=False) + "\n")
