"""A model under examination: its prompts, and what it computes when left alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from circuitkit.model.site import KINDS, Kind, Site
from circuitkit.model.tokens import Pass, Prompts, Tokens
from circuitkit.run.interventions import scale
from circuitkit.run.run import Run, forward

if TYPE_CHECKING:
    from circuitkit.model.model import Model

_LENGTHS = (12, 12, 9, 5)


class UncheckedError(Exception):
    """Why a check cannot be made on a model."""


@dataclass(frozen=True)
class Patient:
    """A model, the prompts it is examined on, and what it gives for them untouched.

    Attributes:
        model: the model.
        tokens: left-padded prompts.
    """

    model: Model
    tokens: Tokens

    @classmethod
    def of(cls, model: Model, prompts: Prompts | Tokens | None) -> Patient:
        """A model with prompts, or with random ones where none are given."""
        given = _random_ids(model) if prompts is None else prompts
        patient = cls(model, model.tokens(given))
        # In evaluation mode without gradients, as studies run it.
        with torch.no_grad():
            assert patient.whole is not None
        return patient

    @cached_property
    def whole(self) -> Float[Tensor, "batch position vocab"]:
        """The untouched model's logits."""
        return forward(self.model, self.tokens)

    @cached_property
    def captured(self) -> Run:
        """A run that captures every site that the model has."""
        return self.model.run(self.tokens, capture=self.kinds)

    @cached_property
    def explicit(self) -> Float[Tensor, "batch position vocab"]:
        """Logits with every layer's attention computed explicitly, its pattern put back as it was."""
        self.layers_with("pattern")
        return self.model.run(self.tokens, [scale("pattern", 1.0)]).logits

    @property
    def kinds(self) -> list[Kind]:
        """The kinds that some layer has, and the embedding."""
        return [kind for kind in KINDS if kind == "embed" or self.model.layers_with(kind)]

    def layers_with(self, *kinds: Kind) -> list[int]:
        """The layers that have sites of all these kinds.

        Raises:
            UncheckedError: no layer has, and why.
        """
        layers = [index for index, layer in enumerate(self.model.layers) if all(kind in layer.points for kind in kinds)]
        if not layers:
            refusals = self.model.layers[0].refusals
            raise UncheckedError("; ".join(f"no {kind}: {refusals[kind]}" for kind in kinds if kind in refusals))
        return layers

    def value(self, kind: Kind, layer: int) -> Tensor:
        """A captured site's value."""
        return self.captured.cache[Site(kind, layer=layer)]

    def reading(
        self, actions: Mapping[Site, Sequence[Callable[[Tensor, Pass], Tensor | None]]]
    ) -> Float[Tensor, "batch position vocab"]:
        """Logits of a run with actions at sites."""
        now = Pass(self.tokens.mask, self.tokens.mask.shape[1], self.tokens.mask)
        with self.model.tapped(actions, lambda: now):
            return forward(self.model, self.tokens)

    def apart(self, a: Float[Tensor, "batch position *rest"], b: Float[Tensor, "batch position *rest"]) -> float:
        """The largest difference on real tokens, relative to the second's standard deviation."""
        mask = self.tokens.mask
        return difference(a[mask.to(a.device)], b[mask.to(b.device)])


def difference(a: Tensor, b: Tensor) -> float:
    """The largest difference, relative to the second's standard deviation; NaN where either holds one."""
    a, b = a.double().cpu(), b.double().cpu()
    largest = (a - b).abs().max()
    return float(largest / b.std()) if b.numel() > 1 and float(b.std()) > 0 else float(largest)


def _random_ids(model: Model) -> list[list[int]]:
    size = int(model.config.vocab_size)
    first = min(3, size - 1)
    generator = torch.Generator().manual_seed(0)
    longest = max(_LENGTHS) if model.context is None else min(max(_LENGTHS), model.context)
    rows = [torch.randint(first, size, (min(length, longest),), generator=generator) for length in _LENGTHS]
    return [row.tolist() for row in rows]
