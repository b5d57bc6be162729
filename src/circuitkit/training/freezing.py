"""Which weights are trained, and the proof that the others did not move."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from circuitkit.model import SiteError, roles
from circuitkit.model.roles import RoleError
from circuitkit.training.errors import TrainingError

if TYPE_CHECKING:
    from circuitkit.model import Model
    from circuitkit.training.recipe import Recipe


def trained_names(model: Model, recipe: Recipe) -> set[str]:
    """The parameters that a recipe trains (all that it does not freeze), by the names that the causal LM gives them.

    Raises:
        TrainingError: a role or layer does not exist, is not to be had alone, or nothing is left to train.
    """
    everyones = [name for name, _ in model.anatomy.root.named_parameters()]
    try:
        if recipe.train is not None:
            found = {*roles.chosen(model, recipe.train, recipe.layers), *roles.chosen(model, recipe.always)}
        elif recipe.layers is not None:
            inside = roles.in_layers(model, recipe.layers)
            found = {name for name in everyones if inside.get(name, False)} | {*roles.chosen(model, recipe.always)}
        else:
            found = set(everyones)
    except (RoleError, SiteError) as error:
        raise TrainingError(str(error)) from error
    if not found:
        raise TrainingError(f"train={recipe.train} in layers {recipe.layers} leaves no weight to train")
    return found


@contextmanager
def freezing(model: Model, names: set[str]) -> Iterator[None]:
    """Train some parameters and no others while the context lasts."""
    before = {parameter: parameter.requires_grad for parameter in model.anatomy.root.parameters()}
    try:
        for name, parameter in model.anatomy.root.named_parameters():
            parameter.requires_grad_(name in names)
        yield
    finally:
        for parameter, needed in before.items():
            parameter.requires_grad_(needed)
            parameter.grad = None


@dataclass(frozen=True)
class Frozen:
    """What is not trained, by the hash of each tensor: parameters that need no gradient, and buffers that are saved."""

    hashes: Mapping[str, str]

    @classmethod
    def of(cls, hf: nn.Module) -> Frozen:
        """The frozen tensors of a model as they are."""
        return cls({name: _hash(tensor) for name, tensor in _frozen(hf)})

    def check(self, hf: nn.Module) -> None:
        """Hold a model against what it was.

        Raises:
            TrainingError: a tensor that is frozen has moved; it is named.
        """
        now = {name: _hash(tensor) for name, tensor in _frozen(hf)}
        moved = [name for name, was in self.hashes.items() if now.get(name) != was]
        if moved:
            raise TrainingError(
                f"{len(moved)} tensors were to stay frozen and have moved, {moved[0]} among them: another hook or "
                "thread wrote into the model while it was trained"
            )


def counts(hf: nn.Module) -> tuple[int, int]:
    """How many parameters are trained, and how many there are, a tied tensor once.

    >>> counts(torch.nn.Linear(2, 3))
    (9, 9)
    """
    each: list[Any] = list(hf.parameters())
    return sum(one.numel() for one in each if one.requires_grad), sum(one.numel() for one in each)


def _frozen(hf: nn.Module) -> Iterator[tuple[str, Tensor]]:
    saved = hf.state_dict(keep_vars=True)
    for name, parameter in hf.named_parameters():
        if not parameter.requires_grad:
            yield name, parameter
    for name, buffer in hf.named_buffers():
        if name in saved:
            yield name, buffer


def _hash(tensor: Tensor) -> str:
    exact = tensor.detach().cpu().contiguous().flatten()
    digest = hashlib.sha256(f"{exact.dtype} {tuple(tensor.shape)}".encode())
    digest.update(exact.view(torch.uint8).numpy().data)
    return digest.hexdigest()
