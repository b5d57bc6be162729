"""What every source writes in some circuits' runs less what it writes in the replacement."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuitkit.circuits.attributing.linear_maps import wide
from circuitkit.circuits.evaluating.layers import Layers
from circuitkit.circuits.evaluating.plan import Plan
from circuitkit.circuits.graphs.layout import Layout

_FEW_STREAMS = 2


class Changes:
    """The changes of the sources that have written so far, in circuits that run side by side.

    Where memory allows, what each source's change writes is kept, of those that any stream is made with. Otherwise a
    head's change is held as that of its `z`, and what it writes is made again whenever it is asked for, a layer at a
    time.

    Args:
        layers: how the model writes.
        layout: its nodes.
        plans: what is read in each circuit.
        bytes_kept: what may be kept.
    """

    def __init__(self, layers: Layers, layout: Layout, plans: Sequence[Plan], bytes_kept: int) -> None:
        self.layers, self.layout, self.bytes_kept = layers, layout, bytes_kept
        self.used = [plan.used for plan in plans]
        self.kept: list[Float[Tensor, "source number"]] | None = None
        self.input: Float[Tensor, "circuit batch position d_model"] | None = None
        self.shape: tuple[int, ...] = ()
        self.z: list[Float[Tensor, "circuit batch position head d_head"]] = []
        self.mlp: list[Float[Tensor, "circuit batch position d_model"]] = []
        self.layer = 0

    # What is written

    def enter(self, stream: Float[Tensor, "circuit batch position d_model"], replacement: Tensor) -> None:
        """Take what enters the first layer."""
        change = _less(stream, replacement)
        numbers = change[0].numel()
        if sum(int(used.sum()) for used in self.used) * numbers * change.element_size() <= self.bytes_kept:
            self.kept = [change.new_empty(int(used.sum()), numbers) for used in self.used]
        self.input, self.shape = change if self.kept is None else None, tuple(change.shape[1:])
        self._keep(0, change)

    def attend(self, z: Float[Tensor, "circuit batch position head d_head"], replacement: Tensor) -> None:
        """Take what a layer's heads write, as their map takes it."""
        change = _less(z, replacement)
        if self.kept is None:
            self.z.append(change)
            return
        rows = self.layout.heads_at(self.layer)
        weight = self.layers.weight(self.layer).to(change.device)
        for circuit, of_circuit in enumerate(change):
            used = self.used[circuit][rows]
            if bool(used.any()):
                written = _written(of_circuit, weight, used.nonzero().flatten().tolist())
                self._rows(circuit, rows.start, rows.stop).copy_(written.flatten(1))

    def compute(self, written: Float[Tensor, "circuit batch position d_model"], replacement: Tensor) -> None:
        """Take what a layer's MLP writes, with which the layer ends."""
        change = _less(written, replacement)
        self._keep(self.layout.mlp_at(self.layer), change)
        if self.kept is None:
            self.mlp.append(change)
        self.layer += 1

    def _keep(self, row: int, change: Float[Tensor, "circuit batch position d_model"]) -> None:
        if self.kept is None:
            return
        for circuit, of_circuit in enumerate(change):
            if bool(self.used[circuit][row]):
                self._rows(circuit, row, row + 1).copy_(of_circuit.reshape(1, -1))

    def _rows(self, circuit: int, start: int, stop: int) -> Float[Tensor, "source number"]:
        """What is kept of some sources."""
        assert self.kept is not None
        used = self.used[circuit]
        return self.kept[circuit][int(used[:start].sum()) : int(used[:stop].sum())]

    # Its sums

    def summed(
        self,
        circuit: int,
        coefficients: Float[Tensor, "stream source"],
        like: Float[Tensor, "batch position d_model"],
        columns: Int[Tensor, " column"] | None = None,
        first: int = 0,
    ) -> Float[Tensor, "stream batch position d_model"]:
        """Sums of one circuit's changes, one a row of coefficients of the sources that have written.

        Args:
            circuit: which.
            coefficients: of sources from the first on, as far as they go.
            like: what the sums are to be of the shape of.
            columns: those to sum, where these are not all.
            first: the source to begin at.
        """
        if coefficients.shape[1] == first:
            return like.new_zeros(len(coefficients), *like.shape, dtype=wide(like.dtype))
        if self.kept is not None:
            return self._of_kept(circuit, coefficients, like, columns, first)
        return self._made_anew(circuit, coefficients, like, columns, first)

    def _of_kept(
        self, circuit: int, coefficients: Tensor, like: Tensor, columns: Tensor | None, first: int
    ) -> Float[Tensor, "stream batch position d_model"]:
        last = coefficients.shape[1]
        rows = self._rows(circuit, first, last).to(like.device)
        if columns is not None:
            rows = rows.view(len(rows), *self.shape)[:, :, columns].flatten(1)
        signs = coefficients[:, first:last][:, self.used[circuit][first:last]].to(rows)
        return (signs @ rows).view(len(signs), *like.shape)

    def _made_anew(
        self, circuit: int, coefficients: Tensor, like: Tensor, columns: Tensor | None, first: int
    ) -> Float[Tensor, "stream batch position d_model"]:
        assert self.input is not None  # the run has begun
        total = like.new_zeros(len(coefficients), like.numel(), dtype=self.input.dtype)
        signs = coefficients.to(total)

        def at(change: Tensor) -> Tensor:
            part = change[circuit] if columns is None else change[circuit][:, columns.to(change.device)]
            return part.to(total.device)

        def add(row: int, change: Tensor) -> None:
            if first <= row < coefficients.shape[1] and bool(coefficients[:, row].any()):
                total.addmm_(signs[:, row : row + 1], at(change).reshape(1, -1))

        add(0, self.input)
        for layer, z in enumerate(self.z):
            rows = self.layout.heads_at(layer)
            # A layer's MLP reads its heads where attention of the layers behind does not yet.
            if first <= rows.start and rows.stop <= coefficients.shape[1]:
                self._add_heads(total, layer, at(z), coefficients[:, rows], signs[:, rows])
            if layer < len(self.mlp):
                add(rows.stop, self.mlp[layer])
        return total.view(len(coefficients), *like.shape)

    def _add_heads(
        self,
        total: Float[Tensor, "stream number"],
        layer: int,
        z: Float[Tensor, "batch position head d_head"],
        coefficients: Float[Tensor, "stream head"],
        signs: Float[Tensor, "stream head"],
    ) -> None:
        heads = coefficients.any(0).nonzero().flatten().tolist()
        if not heads:
            return
        weight = self.layers.weight(layer).to(z.device)
        if len(signs) > _FEW_STREAMS:
            total.addmm_(signs[:, heads], _written(z, weight, heads).flatten(1))
            return
        some, weight = z[:, :, heads], weight[heads]
        for stream, of_heads in zip(total, signs[:, heads], strict=True):
            joined = (some * of_heads[:, None]).flatten(0, 1).flatten(1)
            stream.view(len(joined), -1).addmm_(joined, weight.flatten(0, 1))


def _written(
    z: Float[Tensor, "batch position head d_head"], weight: Float[Tensor, "head d_head d_model"], heads: list[int]
) -> Float[Tensor, "head row d_model"]:
    """What some heads write."""
    every = len(heads) == len(weight)
    some, weight = (z, weight) if every else (z[:, :, heads], weight[heads])
    return torch.bmm(some.flatten(0, 1).transpose(0, 1), weight)


def _less(written: Tensor, replacement: Tensor) -> Tensor:
    dtype = wide(written.dtype)
    return written.to(dtype) - replacement.to(written.device, dtype)
