"""What lies in a model's folder beside its weights and is needed to load it and to generate: config, tokenizer, code.

All else tells of the model that was there before (its card, its accuracy, how it was trained), and would be untrue of
one made from it.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from circuitkit.sfn.streams.headers import Stored

_CONFIG, _INDEX = "config.json", "model.safetensors.index.json"
_NEEDED = (
    *(_CONFIG, "generation_config.json", "generation_config_*.json", _INDEX),
    # Tokenizers, by the names that those of transformers give their files, and that SentencePiece and tiktoken do.
    *("*tokenizer*", "tekken.json", "special_tokens_map.json", "added_tokens.json", "*vocab*.json", "*vocab*.txt"),
    *("vocab.bpe", "*merges.txt", "bpe.codes", "dict.txt", "*.model", "*.spm", "*.tiktoken", "word_*.json"),
    *("normalizer.json", "emoji.json", "byte_maps.json"),
    *("chat_template*", "*processor_config.json", "*.py"),
    *("LICENSE*", "LICENCE*", "COPYING*", "NOTICE*", "USE_POLICY*", "*_LICENSE*"),
)
"""Patterns, letters' case aside. Licences and code go with weights wherever these go."""

_FOLDERS = ("additional_chat_templates",)
"""Folders that belong to a tokenizer; others hold other formats or a training's own checkpoints."""


def small_files(folder: Path) -> Iterator[Path]:
    """The files of a model's folder that go with its weights; links count as what they lead to.

    Those of the patterns above, and what the model's own code names.
    """
    there = [path for path in sorted(folder.iterdir()) if path.name[0] != "."]
    code = "".join(path.read_text(errors="replace") for path in there if path.suffix == ".py" and path.is_file())
    # Where the weights are in one file, that is what is read, whatever an index says.
    unread = _INDEX if (folder / "model.safetensors").is_file() else ""
    for path in there:
        if path.is_dir():
            if path.name in _FOLDERS:
                yield from sorted(inside for inside in path.rglob("*") if inside.is_file())
        elif path.name != unread and not _of_weights(path.name) and (_is_needed(path.name) or _named(path, code)):
            yield path


def left_behind(folder: Path) -> list[str]:
    """The files right in a model's folder that are neither copied nor weights of the format that is read.

    >>> from circuitkit.model import embedded
    >>> left_behind(embedded.path("deductor-130k"))
    ['README.md', 'accuracy.json', 'loss.csv', 'training.json']
    """
    taken = {path.name for path in small_files(folder)}
    there = (path.name for path in sorted(folder.iterdir()) if path.is_file() and path.suffix != ".safetensors")
    return [name for name in there if name not in taken]


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
            _write(target, _configured(json.loads(path.read_bytes()), config_changes))
        elif path.name == _INDEX and extra:
            _write(target, _indexed(json.loads(path.read_bytes()), extra))
        else:
            shutil.copyfile(path, target)


def _is_needed(name: str) -> bool:
    return any(fnmatchcase(name.lower(), pattern.lower()) for pattern in _NEEDED)


def _named(path: Path, code: str) -> bool:
    return path.name in code and path.suffix != ".md"


def _of_weights(name: str) -> bool:
    return name.endswith((".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".gguf", ".onnx"))


def _configured(settings: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A config with settings changed: its own, and those of a model within it (`text_config`) that state them too."""
    within = {
        name: inner | {key: value for key, value in changes.items() if key in inner}
        for name, inner in settings.items()
        if isinstance(inner, dict)
    }
    return settings | within | dict(changes)


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
