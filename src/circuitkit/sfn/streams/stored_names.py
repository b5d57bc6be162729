"""What becomes of each stored tensor when transformers loads it: of which parameter it is all, and of which some rows.

Checkpoints are not stored as they are in memory. Names come with the backbone's prefix or without it, under those of
older versions, and some tensors are put together: experts one by one into one tensor, a fused projection into several.
transformers says how, and is asked; what it does there moves whole rows, or is refused here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from circuitkit.model import Model
from circuitkit.sfn.errors import CheckpointError
from circuitkit.sfn.streams.headers import Stored


@dataclass(frozen=True)
class Became:
    """Rows of a stored tensor that are rows of a parameter, all axes but the last taken as one.

    Attributes:
        parameter: by the name that the causal LM gives it; a saved buffer counts too.
        stored: the rows in the stored tensor.
        rows: as many in the parameter.
    """

    parameter: str
    stored: slice
    rows: slice


def became(model: Model, tensors: Mapping[str, Stored], name: str) -> dict[str, tuple[Became, ...]]:
    """What of which parameters each stored tensor becomes; nothing, where the model does not know it.

    Args:
        model: of the checkpoint's architecture, with or without weights.
        tensors: by stored name.
        name: of the checkpoint, for messages.

    Raises:
        CheckpointError: the tensor is stored in a way that is not read here, or with another shape than the model's.
    """
    from transformers.core_model_loading import WeightConverter, WeightRenaming, dot_natural_key, rename_source_key

    root: Any = model.anatomy.root
    there = dict(root.state_dict(keep_vars=True))
    mapping = _mapping(root)
    renamings = [each for each in mapping if isinstance(each, WeightRenaming)]
    converters = [each for each in mapping if isinstance(each, WeightConverter)]
    by_pattern = {pattern: each for each in converters for pattern in each.source_patterns}
    found: dict[str, tuple[Became, ...]] = {}
    gathered: dict[str, tuple[Any, dict[str, list[Stored]]]] = {}
    # In the order in which transformers reads them, which decides on experts' numbers.
    for stored_name in sorted(tensors, key=dot_natural_key):
        stored = tensors[stored_name]
        renamed, pattern = rename_source_key(stored_name, renamings, converters, root.base_model_prefix, there)
        if pattern is None:
            found[stored_name] = (_alone(renamed, there[renamed], stored, name),) if renamed in there else ()
        elif renamed in there:
            gathered.setdefault(renamed, (by_pattern[pattern], {}))[1].setdefault(pattern, []).append(stored)
        else:
            found[stored_name] = ()
    for target, (converter, sources) in gathered.items():
        for stored_name, place in _converted(converter, target, sources, there, name):
            found[stored_name] = (*found.get(stored_name, ()), place)
    return {each: found[each] for each in tensors}


def _mapping(root: Any) -> list[Any]:
    from transformers.conversion_mapping import get_model_conversion_mapping

    return list(get_model_conversion_mapping(root))


def _alone(parameter: str, tensor: Tensor, stored: Stored, name: str) -> Became:
    if stored.shape != tuple(tensor.shape):
        raise CheckpointError(
            f"{stored.name} of {name} is {list(stored.shape)}, and by its config {parameter} is {list(tensor.shape)}: "
            "config.json and weights are of different models"
        )
    every = slice(0, stored.rows)
    return Became(parameter, every, every)


def _converted(
    converter: Any, target: str, sources: Mapping[str, Sequence[Stored]], there: Mapping[str, Tensor], name: str
) -> list[tuple[str, Became]]:
    """What each of the sources of one converted parameter, or of several, becomes."""
    done = [type(each).__name__ for each in converter.operations]
    axes = [getattr(each, "dim", None) for each in converter.operations]
    in_order = [(pattern, sources[pattern]) for pattern in converter.source_patterns if pattern in sources]
    first = in_order[0][1][0]
    found: list[tuple[str, Became]] | None = None
    if done in (["Chunk"], ["Split"]) and axes == [0] and len(in_order) == 1:
        found = _split(converter, target, first, there)
    elif done == ["Concatenate"] and axes == [0]:
        found = _one_behind_another([each for _, group in in_order for each in group], target)
    elif done == ["MergeModulelist"] and axes == [0]:
        found = _one_behind_another(in_order[0][1], target)
    elif done == ["MergeModulelist", "Concatenate"] and axes == [0, 1]:
        found = _one_behind_another(_by_expert([group for _, group in in_order], target, name), target)
    if found is None:
        raise CheckpointError(
            f"{first.name} of {name} is stored otherwise than {target} is in memory ({', '.join(done)}), which is not "
            "read here: load the model, and give it instead of its folder"
        )
    _check_sum(found, there, name)
    return found


def _split(converter: Any, target: str, stored: Stored, there: Mapping[str, Tensor]) -> list[tuple[str, Became]] | None:
    """A tensor whose rows are those of several parameters, one after another."""
    first, *_ = converter.target_patterns
    names = [target.replace(first, each) for each in converter.target_patterns]
    if not all(each in there for each in names):
        return None
    sizes = [rows_of(there[each]) for each in names]
    if type(converter.operations[0]).__name__ == "Chunk" and len(set(sizes)) > 1:
        return None
    found, start = [], 0
    for each, size in zip(names, sizes, strict=True):
        found.append((stored.name, Became(each, slice(start, start + size), slice(0, size))))
        start += size
    return found if start == stored.rows else None


def _one_behind_another(group: Sequence[Stored], target: str) -> list[tuple[str, Became]]:
    """Tensors whose rows follow one another in a parameter."""
    found, start = [], 0
    for stored in group:
        found.append((stored.name, Became(target, slice(0, stored.rows), slice(start, start + stored.rows))))
        start += stored.rows
    return found


def _by_expert(groups: Sequence[Sequence[Stored]], target: str, name: str) -> list[Stored]:
    """Each expert's gate and up, expert after expert."""
    if len({len(group) for group in groups}) != 1:
        told = " and ".join(f"{len(group)} like {group[0].name}" for group in groups)
        raise CheckpointError(f"{name} has {told} for {target}: the checkpoint is not whole; download or copy it again")
    return [each for expert in zip(*groups, strict=True) for each in expert]


def _check_sum(found: Sequence[tuple[str, Became]], there: Mapping[str, Tensor], name: str) -> None:
    for parameter in {place.parameter for _, place in found}:
        having = sum(place.rows.stop - place.rows.start for _, place in found if place.parameter == parameter)
        if having != (wanted := rows_of(there[parameter])):
            raise CheckpointError(
                f"{name} has {having} rows for {parameter}, from {found[0][0]} on, and by its config there are "
                f"{wanted}: config.json and weights are of different models, or the checkpoint is not whole"
            )


def rows_of(tensor: Tensor) -> int:
    """Rows of a tensor, all axes but the last taken as one."""
    return torch.Size(tensor.shape[:-1]).numel() if tensor.ndim > 1 else tensor.numel()
