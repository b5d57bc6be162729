"""Norms in closed form: what a gradient becomes on its way back through one, without running it.

Norms of decoders give `n = gain * (x - mean) / sqrt(mean square + eps) + shift`, with or without the mean. Which of
them a module is, is tried on its own numbers. With `u` the unit-scale vector and `r` the reciprocal of the root, a
gradient `y` of `n` comes out as `r (C(gain * y) - u (u . gain * y) / d)`, `C` taking the mean away where the norm does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from circuitkit.circuits.attributing.linear_maps import made_of, wide
from circuitkit.model.devices import execution_device, weight_of

Gain = Literal["weight", "1 + weight", "none"]
_EPSILONS = ("eps", "variance_epsilon", "epsilon", "norm_eps")
# Many norms compute in float32 whatever they are handed, so that float64 is no nearer.
_TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-5}
_TOLERANCE_IN_HALF = 2e-2
_SCALES = (1.0, 1e-2, 30.0)


@dataclass(frozen=True)
class Norm:
    """A norm in closed form.

    Attributes:
        module: the norm itself.
        centred: whether it takes the mean away (LayerNorm) or not (RMSNorm).
        gain_is: where its gain is kept.
        eps: what it adds to the mean square.
    """

    module: nn.Module
    centred: bool
    gain_is: Gain
    eps: float

    @classmethod
    def of(cls, module: nn.Module, d_model: int, dtype: torch.dtype) -> Norm | None:
        """A module as a norm, or None where it is none of these.

        >>> norm = Norm.of(nn.LayerNorm(8), 8, torch.float32)
        >>> norm.centred, norm.gain_is
        (True, 'weight')
        """
        device = execution_device(module) if any(True for _ in module.parameters()) else torch.device("cpu")
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randn(4, d_model, generator=generator) + torch.randn(4, 1, generator=generator)
        trials = [(scale * drawn).to(device, dtype) for scale in _SCALES]
        try:
            with torch.no_grad():
                made = [made_of(module, trial) for trial in trials]
        except (RuntimeError, TypeError, ValueError, IndexError):
            # Whatever it is, it is no function of one vector.
            return None
        for norm in cls._candidates(module):
            if all(norm._gives(trial, out) for trial, out in zip(trials, made, strict=True)):
                return norm
        return None

    @classmethod
    def _candidates(cls, module: nn.Module) -> Iterator[Norm]:
        has_weight = isinstance(getattr(module, "weight", None), Tensor)
        gains: tuple[Gain, ...] = ("weight", "1 + weight") if has_weight else ("none",)
        kept = [float(value) for name in _EPSILONS if isinstance(value := getattr(module, name, None), int | float)]
        for eps in (*kept, 1e-5, 1e-6, torch.finfo(torch.float32).eps):
            for gain in gains:
                for centred in (False, True):
                    yield cls(module, centred, gain, eps)

    def _gives(self, trial: Tensor, made: Tensor) -> bool:
        unit, _ = self.unit(trial)
        gain, shift = self.gain(unit), self.shift(unit)
        expected = unit if gain is None else unit * gain
        expected = expected if shift is None else expected + shift
        tolerance = _TOLERANCE.get(trial.dtype, _TOLERANCE_IN_HALF)
        return made.shape == expected.shape and bool(
            (made.to(expected) - expected).norm() <= tolerance * expected.norm()
        )

    def unit(
        self, stream: Float[Tensor, "*rows d_model"]
    ) -> tuple[Float[Tensor, "*rows d_model"], Float[Tensor, "*rows 1"]]:
        """A stream at unit scale, and the reciprocal of its root mean square."""
        x = stream.to(wide(stream.dtype))
        if self.centred:
            x = x - x.mean(-1, keepdim=True)
        root = torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)
        return x * root, root

    def gain(self, like: Tensor) -> Float[Tensor, " d_model"] | None:
        """Its gain; None where it has none."""
        weight = None if self.gain_is == "none" else weight_of(self.module)
        if weight is None:
            return None
        return weight.to(like) + 1 if self.gain_is == "1 + weight" else weight.to(like)

    def shift(self, like: Tensor) -> Float[Tensor, " d_model"] | None:
        """What it adds; None where it adds nothing."""
        bias: Any = weight_of(self.module, "bias")
        return None if bias is None else bias.to(like)

    def folded(self, rows: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"]:
        """Vectors that are held against the norm's output, as vectors held against the unit-scale stream."""
        gain = self.gain(rows)
        rows = rows if gain is None else rows * gain
        return rows - rows.mean(-1, keepdim=True) if self.centred else rows

    def applied(self, rows: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows d_model"]:
        """What a part of the sum that is normed contributes, but for the sum's own scale."""
        rows = rows - rows.mean(-1, keepdim=True) if self.centred else rows
        gain = self.gain(rows)
        return rows if gain is None else rows * gain

    def pulled_back(
        self,
        gradient: Float[Tensor, "*rows d_model"],
        unit: Float[Tensor, "*rows d_model"],
        root: Float[Tensor, "*rows 1"],
    ) -> Float[Tensor, "*rows d_model"]:
        """The gradient at the norm's input, of that at its output."""
        folded = self.folded(gradient.to(unit))
        return root * (folded - unit * (folded * unit).mean(-1, keepdim=True))
