"""What the edges outside a circuit carry: what every source writes in a corrupt run, on average, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import get_ident
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor

from circuitkit.circuits.attributing.linear_maps import wide
from circuitkit.circuits.errors import CircuitError
from circuitkit.circuits.evaluating.layers import Layers
from circuitkit.model import taps
from circuitkit.model.points import Point
from circuitkit.model.tokens import Pass, Tokens
from circuitkit.run.run import forward

if TYPE_CHECKING:
    pass

Ablation = Literal["patch", "mean", "zero"]
ABLATIONS: tuple[Ablation, ...] = get_args(Ablation)


@dataclass(eq=False)
class Replacement:
    """What every source writes in a run, and the streams that this makes.

    Every tensor has the axes `[batch, position, …]`, either of size 1 where all rows or positions are alike.

    Attributes:
        entering: the stream before each layer.
        before_mlp: the stream that each layer's MLP reads.
        leaving: the stream behind the last layer.
        z: of each layer's heads, as their `HeadWriter` takes it.
        mlp: what each layer's MLP writes.
    """

    entering: list[Tensor] = field(default_factory=list)
    before_mlp: list[Tensor] = field(default_factory=list)
    leaving: Tensor | None = None
    z: list[Tensor] = field(default_factory=list)
    mlp: list[Tensor] = field(default_factory=list)

    @property
    def _parts(self) -> tuple[list[Tensor], ...]:
        assert self.leaving is not None  # the run has ended
        return self.entering, self.before_mlp, [self.leaving], self.z, self.mlp

    def mapped(self, act: Callable[..., Tensor], *others: Replacement) -> Replacement:
        """What a function makes of every tensor, and of those in its place in other runs."""
        runs = (self, *others)
        made = [
            [act(*each) for each in zip(*parts, strict=True)]
            for parts in zip(*(run._parts for run in runs), strict=True)
        ]
        entering, before_mlp, [leaving], z, mlp = made
        return Replacement(entering, before_mlp, leaving, z, mlp)

    @classmethod
    def of_run(cls, layers: Layers, tokens: Tokens) -> Replacement:
        """What is written in the model's own run on some tokens."""
        record = cls()
        with record._recorded(layers, tokens), torch.no_grad():
            forward(layers.model, tokens, tokens.columns(-1)[:, None])
        return record

    @classmethod
    def nothing(cls, layers: Layers) -> Replacement:
        """What is written where no source writes: the streams are what biases make of them."""
        record = cls()
        model = layers.model
        stream = torch.zeros(1, 1, model.d_model, dtype=wide(model.hf.dtype), device=model.device)
        for layer, writer in enumerate(layers.writers):
            record.entering.append(stream)
            after = stream + writer.bias(model).to(stream) * writer.multiplier
            parallel = "resid_mid" not in model.layers[layer].points
            record.before_mlp.append(stream if parallel else after)
            record.z.append(stream.new_zeros(1, 1, writer.n_heads, writer.d_head))
            record.mlp.append(torch.zeros_like(stream))
            stream = after
        record.leaving = stream
        return record

    @contextmanager
    def _recorded(self, layers: Layers, tokens: Tokens) -> Iterator[None]:
        actions: dict[Point, list[taps.Action]] = {}

        def enter(tensor: Tensor, now: Pass) -> None:
            # Some decoders add to the stream, or to a branch's output, in place.
            self.entering.append(tensor.clone())

        def keep_z(tensor: Tensor, now: Pass) -> None:
            self.z.append(layers.writers[len(self.z)].scaled(tensor))

        def keep_mlp_input(tensor: Tensor, now: Pass) -> None:
            self.before_mlp.append(tensor.clone())

        def keep_mlp(tensor: Tensor, now: Pass) -> None:
            self.mlp.append(tensor.clone())

        def leave(tensor: Tensor, now: Pass) -> None:
            self.leaving = tensor

        for layer, (point, normed) in enumerate(layers.mlp_inputs):
            kept: list[tuple[Point, taps.Action]] = [
                (layers.point("resid_pre", layer), enter),
                (layers.point("z", layer), keep_z),
                (layers.point("resid_pre", layer) if normed else point, keep_mlp_input),
                (layers.point("mlp_out", layer), keep_mlp),
            ]
            for at, act in kept:
                actions.setdefault(at, []).append(act)
        actions.setdefault(layers.point("resid_post", layers.model.n_layers - 1), []).append(leave)
        now, thread = Pass(tokens.mask, tokens.mask.shape[1], tokens.mask), get_ident()
        with taps.holding(actions, {}, {}, lambda: now if get_ident() == thread else None):
            yield


class Means:
    """The mean over examples of what every source writes, at each position or over all.

    Args:
        layers: the model's.
        by_position: whether a mean is taken at each position, counted from a prompt's first token, over the prompts
            that reach it.
    """

    def __init__(self, layers: Layers, by_position: bool) -> None:
        self.layers, self.by_position = layers, by_position
        self._sums: Replacement | None = None
        self._counts = torch.zeros(0, dtype=torch.long)

    @classmethod
    def over(cls, layers: Layers, tokens: Tokens, by_position: bool, batches: Sequence[slice]) -> Means:
        """The means over some prompts, run in batches."""
        means = cls(layers, by_position)
        width = int(tokens.lengths.max()) if by_position else 1
        for rows in batches:
            part = tokens[rows]
            means._add(Replacement.of_run(layers, part), part, width)
        return means

    def _add(self, written: Replacement, tokens: Tokens, width: int) -> None:
        real = tokens.mask
        at = tokens.positions[real] if self.by_position else torch.zeros_like(tokens.positions[real])

        def summed(tensor: Tensor) -> Tensor:
            each = tensor[real.to(tensor.device)]
            # Apple's GPUs have no double precision.
            summand = each.float() if each.device.type == "mps" else each.double()
            return summand.new_zeros(width, *each.shape[1:]).index_add(0, at.to(each.device), summand)

        sums = written.mapped(summed)
        counts = torch.bincount(at, minlength=width)
        if self._sums is None:
            self._sums, self._counts = sums, counts
            return
        self._counts += counts
        self._sums = self._sums.mapped(torch.add, sums)

    def at(self, tokens: Tokens) -> Replacement:
        """The means laid out along the columns of a batch.

        Raises:
            CircuitError: a prompt is longer than all those of which means were taken.
        """
        assert self._sums is not None  # there are prompts
        longest = int(tokens.lengths.max())
        if self.by_position and longest > len(self._counts):
            raise CircuitError(
                f"a mean by position over prompts of at most {len(self._counts)} tokens says nothing of position "
                f"{longest - 1}: give longer reference prompts, or by_position=False"
            )
        positions = tokens.positions.clamp(min=0) if self.by_position else torch.zeros(1, 1, dtype=torch.long)
        counts = self._counts

        def laid_out(sums: Tensor) -> Tensor:
            shape = (-1, *(1 for _ in sums.shape[1:]))
            means = sums / counts.to(sums.device).clamp(min=1).view(shape)
            return means[positions.to(sums.device)].to(wide(self.layers.model.hf.dtype))

        return self._sums.mapped(laid_out)
