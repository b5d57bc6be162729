"""The parts of stored tensors: those of the parameters that transformers makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from circuitkit.model import Model
from circuitkit.sfn.errors import CheckpointError
from circuitkit.sfn.streams.headers import Stored
from circuitkit.sfn.streams.parts import Part, live_parts, whole_part
from circuitkit.sfn.streams.runs import cut, joined, shifted
from circuitkit.sfn.streams.stored_names import Became, became, rows_of

if TYPE_CHECKING:
    from circuitkit.sfn.streams.checkpoint import Checkpoint


_NUMBERS = frozenset((torch.float64, torch.float32, torch.float16, torch.bfloat16))


def stored_parts(checkpoint: Checkpoint) -> tuple[Part, ...]:
    """Every part of every stored tensor, in the order in which they are stored.

    Raises:
        CheckpointError: a parameter is not stored, or with another shape, in whole numbers or eight bits, or in a way
            that is not read here; copies of a tied tensor differ.
    """
    model = checkpoint.skeleton
    places = became(model, checkpoint.tensors, checkpoint.name)
    _check_numbers(model, checkpoint, places)
    first = _first_names(model)
    _check_whole(model, checkpoint.name, [place for each in places.values() for place in each], first)
    copies = _copies(checkpoint, places, first)
    of_parameter: dict[str, list[Part]] = {}
    for part in live_parts(model):
        of_parameter.setdefault(part.parameter, []).append(part)
    found: list[Part] = []
    for name, stored in checkpoint.tensors.items():
        if name in copies:
            continue
        if not places[name]:
            found.append(whole_part(name, name, stored.shape, _layer(model, name)))
        more = tuple(copy for copy, of in copies.items() if of == name)
        for place in places[name]:
            parameter = first[place.parameter]
            found += [replace(part, copies=more) for part in _within(of_parameter[parameter], stored, place)]
    return tuple(found)


def _check_numbers(model: Model, checkpoint: Checkpoint, places: Mapping[str, Sequence[Became]]) -> None:
    """Refuse weights that are stored as codes, whether or not the config says so."""
    there = model.anatomy.root.state_dict()
    for name, stored in checkpoint.tensors.items():
        weights = any(there[place.parameter].dtype.is_floating_point for place in places[name])
        if weights and stored.dtype not in _NUMBERS:
            kind = str(stored.dtype).removeprefix("torch.")
            raise CheckpointError(
                f"{name} of {checkpoint.name} is stored as {kind}: such numbers are codes with scales beside them, "
                "which cannot be compared or mixed; give the checkpoint in float32, float16 or bfloat16 that it was "
                "made from"
            )


def _within(parts: Sequence[Part], stored: Stored, place: Became) -> Iterator[Part]:
    """What of a parameter's parts lies in a stored tensor."""
    for part in parts:
        inside = [found[1] for run in part.rows if (found := cut(run, place.rows)) is not None]
        if inside:
            rows = shifted(joined(inside), place.stored.start - place.rows.start)
            # An expert's bias that is stored alone is a vector of its own.
            vector = part.vector and len(stored.shape) > 1
            yield replace(part, tensor=stored.name, of=stored.shape, rows=rows, vector=vector)


def _first_names(model: Model) -> dict[str, str]:
    """For each tensor of a model, the first of its names."""
    names: dict[int, str] = {}
    return {
        name: names.setdefault(id(tensor), name)
        for name, tensor in model.anatomy.root.state_dict(keep_vars=True).items()
    }


def _check_whole(model: Model, name: str, places: Sequence[Became], first: Mapping[str, str]) -> None:
    """Refuse a checkpoint that lacks one of the model's parameters, which transformers would draw at random."""
    having: dict[str, int] = {}
    for place in places:
        having[place.parameter] = having.get(place.parameter, 0) + place.rows.stop - place.rows.start
    supplied = {first[each] for each in having}
    for parameter, tensor in model.anatomy.root.named_parameters():
        if first[parameter] not in supplied:
            raise CheckpointError(
                f"{name} does not hold {parameter} ({list(tensor.shape)}), which {type(model.anatomy.root).__name__} "
                "has: the checkpoint is not whole, or is another architecture's; download or copy it again"
            )
        if parameter in having and having[parameter] != rows_of(tensor):
            raise CheckpointError(
                f"{name} holds {having[parameter]} of the {rows_of(tensor)} rows of {parameter}: the checkpoint is not "
                "whole; download or copy it again"
            )


def _copies(checkpoint: Checkpoint, places: Mapping[str, Sequence[Became]], first: Mapping[str, str]) -> dict[str, str]:
    """Stored tensors that are a tied tensor once more, each with the one that counts, which the model has first."""
    stored: dict[str, list[tuple[str, str]]] = {}
    for name, each in places.items():
        # A tied tensor is stored as it is.
        if len(each) == 1:
            stored.setdefault(first[each[0].parameter], []).append((each[0].parameter, name))
    found: dict[str, str] = {}
    for tied, names in stored.items():
        if len({parameter for parameter, _ in names}) > 1:
            names.sort(key=lambda pair: pair[0] != tied)
            (_, counts), *others = names
            for _, other in others:
                _check_equal(checkpoint, counts, other)
                found[other] = counts
    return found


def _check_equal(checkpoint: Checkpoint, name: str, other: str) -> None:
    for (_, block), (at, copy) in zip(checkpoint.blocks(name), checkpoint.blocks(other), strict=True):
        if block.dtype != copy.dtype or not torch.equal(block, copy):
            raise CheckpointError(
                f"{name} and {other} of {checkpoint.name} are tied by its config, but stored apart and different (rows "
                f"{at.start} to {at.stop - 1}): set tie_word_embeddings to false in its config.json, or remove one"
            )


def _layer(model: Model, name: str) -> int | None:
    """The layer in which a tensor lies that the model does not know, by its name."""
    paths = {module: path for path, module in model.anatomy.root.named_modules()}
    for index, block in enumerate(model.anatomy.blocks):
        path = f"{paths[block.block]}."
        if name.startswith((path, path.removeprefix(f"{model.anatomy.root.base_model_prefix}."))):
            return index
    return None
