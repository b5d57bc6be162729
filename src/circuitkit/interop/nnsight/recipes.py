"""An intervention as plain data: which numbers of a site's tensor it reaches in a pass, and with what.

The tokens of a pass are known before it is run, and so is everything but the site's own values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from circuitkit.model.tokens import Pass
from circuitkit.run.edits import Edit
from circuitkit.run.interventions import InterventionError

Plain = dict[str, Any]
"""Tensors, numbers and names alone."""


class Recipe(Edit):
    """An intervention at one layer's site, told before the site's values are there."""

    def told(self, shape: tuple[int, ...], dtype: torch.dtype, now: Pass) -> Plain | None:
        """What the far side does to a site's tensor of this shape in this pass; None where there is nothing to do.

        Raises:
            InterventionError: the value does not fit, or a named position does not exist.
        """
        # One number that stands for a whole tensor: only its shape and precision are asked for.
        like = torch.zeros(1, dtype=dtype).expand(shape)
        if (plan := self.plan(like, now)) is None:
            return None
        reach, value = plan
        return {"operation": self.intervention.operation, "reach": reach, "operand": self._operand(value, dtype)}

    def _operand(self, value: Tensor | None, dtype: torch.dtype) -> Tensor:
        if value is None:
            return torch.as_tensor(self.intervention.value).to(dtype)
        # A copy, since a view would take all that it is a part of along.
        return value.detach().clone()


def check_fired(recipes: Sequence[tuple[int, Recipe]], why: str = "it names no token that any prompt has") -> None:
    """Refuse interventions that nothing was told of.

    Raises:
        InterventionError: one of them reaches nothing.
    """
    for _, recipe in recipes:
        if not recipe.fired:
            raise InterventionError(f"the intervention at {recipe.site} never took place: {why}")
