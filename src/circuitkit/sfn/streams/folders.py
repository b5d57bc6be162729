"""Which files of a model's folder hold its weights, and where in them each tensor lies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from circuitkit.sfn.errors import CheckpointError
from circuitkit.sfn.streams.headers import Stored, stored_in

_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"


def tensors_in(folder: Path) -> dict[str, Stored]:
    """The tensors of a model's folder, by stored name: shard after shard, and within one as they lie in it.

    Raises:
        CheckpointError: it is no model's folder, or its files do not fit each other.
    """
    if not folder.is_dir():
        raise CheckpointError(f"there is no model folder {folder}")
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder} is no model's folder: it has no config.json{_adapter(folder)}")
    if (folder / _SINGLE).is_file():
        return {stored.name: stored for stored in stored_in(folder / _SINGLE)}
    if (folder / _INDEX).is_file():
        return _sharded(folder, _weight_map(folder / _INDEX))
    raise CheckpointError(_no_weights(folder))


def _sharded(folder: Path, weight_map: Mapping[str, str]) -> dict[str, Stored]:
    found: dict[str, Stored] = {}
    for file in dict.fromkeys(weight_map.values()):
        if not (folder / file).is_file():
            wanted = next(name for name, where in weight_map.items() if where == file)
            raise CheckpointError(
                f"{folder} has no {file}, in which its index places {wanted}: download or copy it too"
            )
        for stored in stored_in(folder / file):
            if stored.name in found:
                raise CheckpointError(
                    f"{stored.name} is stored twice in {folder}, in {_name(found[stored.name])} and in {file}: "
                    "remove the file that is left over"
                )
            if stored.name not in weight_map:
                raise CheckpointError(
                    f"{folder / _INDEX} has no entry for {stored.name}, which is stored in {file}: index and shards "
                    "are of different checkpoints, or one was not copied whole"
                )
            if weight_map[stored.name] != file:
                raise CheckpointError(
                    f"{folder / _INDEX} places {stored.name} in {weight_map[stored.name]}, and it is stored in {file}: "
                    "index and shards are of different checkpoints"
                )
            found[stored.name] = stored
    for name, file in weight_map.items():
        if name not in found:
            raise CheckpointError(
                f"{folder / file} does not hold {name}, which {_INDEX} places there: index and shards are of different "
                "checkpoints, or one was not copied whole"
            )
    return found


def _weight_map(index: Path) -> dict[str, str]:
    try:
        weight_map = json.loads(index.read_bytes())["weight_map"]
        if not weight_map or not all(isinstance(file, str) and Path(file).name == file for file in weight_map.values()):
            raise CheckpointError(f"{index} does not say which file of its folder each tensor is in; download it again")
        return dict(weight_map)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{index} is spoiled ({type(error).__name__}: {error}); download it again") from error


def _no_weights(folder: Path) -> str:
    if told := _adapter(folder):
        return f"{folder} holds no weights of a model{told}"
    if lost := next((folder / name for name in (_SINGLE, _INDEX) if (folder / name).is_symlink()), None):
        return f"{lost} leads to a file that is not there ({lost.readlink()}): download or copy it again"
    if others := sorted(folder.glob("*.safetensors")):
        names = ", ".join(each.name for each in others[:3])
        return (
            f"{folder} has weights ({names}), but neither {_SINGLE} nor {_INDEX}, which says what is in each of them: "
            "download or copy the index too"
        )
    if others := sorted([*folder.glob("*.bin"), *folder.glob("*.pth"), *folder.glob("*.pt")]):
        return (
            f"{folder} has weights in {others[0].name} only, which can be read as a whole only, and can hold code: "
            f"convert them once, with transformers.AutoModelForCausalLM.from_pretrained({str(folder)!r}, dtype='auto')"
            ".save_pretrained(…), and give that folder"
        )
    return f"{folder} holds a config.json but no weights (no *.safetensors; other formats are not read, nor downloaded)"


def _adapter(folder: Path) -> str:
    if not (folder / "adapter_config.json").is_file():
        return ""
    return ", but an adapter: merge it into its base (peft's merge_and_unload), save that, and give its folder"


def _name(stored: Stored) -> str:
    return "memory" if stored.file is None else stored.file.name
