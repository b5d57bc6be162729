"""Changes of a model in memory: modules or as many parameters of others, grafted from another model or destroyed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

import circuitkit as ck
from circuitkit.sfn import live_parts
from circuitkit.sfn.live.in_place import replaced
from circuitkit.studies import Pretrained
from stethoscope.modules import Control, Modules, Rows, drawn, matrices, parameters

How = Literal["zero", "reinit", "noise", "remove"]
RANDOM: tuple[How, ...] = ("reinit", "noise")
"""Ways to destroy in which chance has part."""


@dataclass(frozen=True)
class Weights:
    """A model that weights are taken from, by name; a folder's content is told, so that another is another cell's.

    Attributes:
        name: of an embedded model, a folder, or a hub id.
        content: the hash of the folder's files.
        revision: the hub id's commit.
        dtype, device_map: as in `ck.load`.
    """

    name: str
    content: str | None = None
    revision: str | None = None
    dtype: str | None = None
    device_map: str | None = None

    @classmethod
    def of(cls, name: str, loading: Mapping[str, str]) -> Weights:
        """A model as it is now."""
        pinned = Pretrained(name, **loading).pinned()
        return cls(name, pinned.content, pinned.revision, pinned.dtype, pinned.device_map)

    def load(self) -> ck.Model:
        """The model; a process keeps the last few."""
        return _loaded(self)


@functools.lru_cache(maxsize=2)
def _loaded(weights: Weights) -> ck.Model:
    return ck.load(weights.name, revision=weights.revision, dtype=weights.dtype, device_map=weights.device_map)


@dataclass(frozen=True)
class Graft:
    """Modules without their biases, or a control of them, with another model's weights."""

    which: Modules | Control
    giver: Weights

    @property
    def random(self) -> bool:
        """Whether a seed draws anything of it."""
        return False

    def on(self, model: ck.Model, seed: int) -> AbstractContextManager[int]:
        """The model changed while the context lasts; gives the number of weights that are replaced."""
        giver = self.giver.load()
        if isinstance(self.which, Modules):
            return _grafted(model, giver, self.which)
        chosen = drawn(live_parts(model), self.which)
        return _rows_replaced(model, chosen, lambda name, share: _of(giver, name))


@dataclass(frozen=True)
class Destruction:
    """Modules without their biases, or a control of them, with nothing or chance in the place of their weights.

    Attributes:
        which: whole layers where `how` is "remove".
        how: "zero", "reinit" (N(0, sigma)), "noise" (of the norm that the weights had) or "remove".
        sigma: of "reinit"; 0.02 is the paper's.
    """

    which: Modules | Control
    how: How
    sigma: float = 0.02

    @property
    def random(self) -> bool:
        """Whether a seed draws the filling."""
        return self.how in RANDOM

    def on(self, model: ck.Model, seed: int) -> AbstractContextManager[int]:
        """The model changed while the context lasts; gives the number of weights that are replaced."""
        if isinstance(self.which, Modules):
            return _destroyed(model, self.which, self.how, self.sigma, seed)
        control = self.which
        chosen = drawn(live_parts(model), control)
        return _rows_replaced(model, chosen, _filling(self.how, self.sigma, (seed, control.draw)))


Change = Graft | Destruction


@contextmanager
def _grafted(model: ck.Model, giver: ck.Model, modules: Modules) -> Iterator[int]:
    with ck.sfn.grafted(model, giver, modules.roles, layers=modules.layers, biases=False):
        yield _count(model, modules)


@contextmanager
def _destroyed(model: ck.Model, modules: Modules, how: How, sigma: float, seed: int) -> Iterator[int]:
    settings = {"sigma": sigma} if how == "reinit" else {}
    # A layer that passes its input through is asked for as a layer.
    named = () if how == "remove" else modules.roles
    with ck.sfn.destroyed(model, named, modules.layers, how, seed=seed, biases=how == "remove", **settings):
        yield _count(model, modules)


def _count(model: ck.Model, modules: Modules) -> int:
    own = [part for part in live_parts(model) if modules.layers is None or part.layer in modules.layers]
    return sum(part.numel for part in (own if "all" in modules.roles else matrices(own, modules.roles)))


@contextmanager
def _rows_replaced(model: ck.Model, chosen: Rows, new: Callable[[str, Tensor], Tensor]) -> Iterator[int]:
    """Some rows of a model's parts from what `new` gives for a parameter and its weights as they are."""

    def with_rows(name: str, whole: Tensor) -> Tensor:
        source = new(name, whole.clone())
        for part, which in chosen:
            if part.tensor == name:
                share, given = part.take(whole).clone(), part.take(source).to(whole.dtype)
                at = torch.from_numpy(which)
                part.put(whole, share.index_copy(part.out_axis, at, given.index_select(part.out_axis, at)))
        return whole

    with replaced(model, [part for part, _ in chosen], with_rows):
        yield parameters(chosen)


def _of(giver: ck.Model, name: str) -> Tensor:
    return giver.anatomy.root.get_parameter(name).detach().cpu()


def _filling(how: How, sigma: float, seed: tuple[int, int]) -> Callable[[str, Tensor], Tensor]:
    def filled(name: str, old: Tensor) -> Tensor:
        if how == "zero":
            return torch.zeros_like(old)
        rng = np.random.default_rng([*seed, *name.encode()])
        numbers = torch.from_numpy(rng.standard_normal(tuple(old.shape)))
        scale = sigma if how == "reinit" else float(old.double().norm() / numbers.norm())
        return (scale * numbers).to(old.dtype)

    return filled
