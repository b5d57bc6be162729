"""What a training in a folder is of: a later call has to be of the same to go on with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from circuitkit.training.errors import TrainingError
from circuitkit.writing import write_json

NAME = "training.json"


def check_same(folder: Path, told: Mapping[str, Any], *, first: bool) -> None:
    """Write what a training is of into its folder, and hold a later one's against it.

    Args:
        folder: the training's.
        told: recipe, data and model.
        first: whether this process writes.

    Raises:
        TrainingError: they differ; what differs is named.
    """
    path = folder / NAME
    now = json.loads(json.dumps(told))
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if first:
            write_json(path, now)
        return
    except ValueError as error:
        raise TrainingError(f"{path} cannot be read ({error}): put it back, or name another folder") from error
    differing = _differing(before, now)
    if differing:
        raise TrainingError(f"{folder} holds another training: {'; '.join(differing)}. Name another folder")


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    said = []
    for name in {**before, **now}:
        was, is_ = before.get(name), now.get(name)
        if isinstance(was, Mapping) and isinstance(is_, Mapping):
            said += [f"{name}: {each}" for each in _differing(was, is_)]
        elif was != is_:
            said.append(f"{name} was {_short(was)} and is {_short(is_)}")
    return said


def _short(value: Any, most: int = 60) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= most else text[: most - 1] + "…"
