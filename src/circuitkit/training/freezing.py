"""Which weights are trained, and the proof that the others did not move."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from circuitkit.model import SiteError, roles
from circuitkit.model.fingerprint import content_digest
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
def freezing(model: Model, recipe: Recipe) -> Iterator[Any]:
    """Train what a recipe trains, and nothing else, while the context lasts; gives the model that is trained.

    Raises:
        TrainingError: see `trained_names`.
    """
    names = trained_names(model, recipe)
    with _needing(model, names):
        yield model.hf


@contextmanager
def frozen_whole(model: Model) -> Iterator[None]:
    """Train none of a model's parameters while the context lasts."""
    with _needing(model, set()):
        yield


@contextmanager
def _needing(model: Model, names: set[str]) -> Iterator[None]:
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


def trainable(hf: nn.Module) -> int:
    """How many parameters are trained, a tied tensor counted once.

    >>> trainable(nn.Linear(2, 3))
    9
    """
    return sum(each.numel() for each in hf.parameters() if each.requires_grad)


def _frozen(hf: nn.Module) -> Iterator[tuple[str, Tensor]]:
    saved = hf.state_dict(keep_vars=True)
    for name, parameter in hf.named_parameters():
        if not parameter.requires_grad:
            yield name, parameter
    for name, buffer in hf.named_buffers():
        if name in saved:
            yield name, buffer


def _hash(tensor: Tensor) -> str:
    return content_digest({"": tensor})
