"""Which weights a recipe trains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from circuitkit.model import SiteError, roles
from circuitkit.model.freezing import give_back, train_only
from circuitkit.model.roles import RoleError
from circuitkit.training.errors import TrainingError

if TYPE_CHECKING:
    from circuitkit.model import Model
    from circuitkit.training.recipe import Recipe


def trained_names(model: Model, recipe: Recipe) -> set[str]:
    """The parameters that a recipe trains (all that it does not freeze), by the names that the causal LM gives them.

    Of a model that is frozen in part already, a recipe that names nothing trains what is free.

    Raises:
        TrainingError: a role or layer does not exist, is not to be had alone, is frozen already, or nothing is left to
            train.
    """
    everyones = [name for name, _ in model.anatomy.root.named_parameters()]
    try:
        if recipe.train is not None:
            found = {*roles.chosen(model, recipe.train, recipe.layers), *roles.chosen(model, recipe.always)}
        elif recipe.layers is not None:
            inside = roles.in_layers(model, recipe.layers)
            found = {name for name in everyones if inside.get(name, False)} | {*roles.chosen(model, recipe.always)}
        else:
            found = set(everyones) - set(frozen_already(model))
    except (RoleError, SiteError) as error:
        raise TrainingError(str(error)) from error
    if not found:
        raise TrainingError(f"train={recipe.train} in layers {recipe.layers} leaves no weight to train")
    check_free(model, found)
    return found


def frozen_already(model: Model) -> list[str]:
    """The parameters that were frozen before a training, by name; none where all need a gradient, or none does.

    A model of which nothing needs a gradient was made ready to be run, not to be trained in part.
    """
    named = list(model.anatomy.root.named_parameters())
    if not any(parameter.requires_grad for _, parameter in named):
        return []
    return [name for name, parameter in named if not parameter.requires_grad]


def check_free(model: Model, names: Iterable[str]) -> None:
    """Refuse to train, or to adapt, what was frozen before.

    Raises:
        TrainingError: one of the parameters is frozen, while others are not.
    """
    asked = set(names)
    if held := next((name for name in frozen_already(model) if name in asked), None):
        raise TrainingError(
            f"{held} of {model.name} is frozen (it needs no gradient), and this training would move it: leave train, "
            "layers and lora out to train what is free, end the freeze (the end of its context, or .thaw()), or call "
            "model.hf.requires_grad_(True)"
        )


@contextmanager
def freezing(model: Model, recipe: Recipe) -> Iterator[Any]:
    """Train what a recipe trains, and nothing else, while the context lasts; gives the model that is trained.

    Raises:
        TrainingError: see `trained_names`.
    """
    with _training(model, trained_names(model, recipe)):
        yield model.hf


@contextmanager
def frozen_whole(model: Model) -> Iterator[None]:
    """Train none of a model's parameters while the context lasts."""
    with _training(model, set()):
        yield


@contextmanager
def _training(model: Model, names: set[str]) -> Iterator[None]:
    before = train_only(model.anatomy.root, names)
    try:
        yield
    finally:
        give_back(before)
