"""What every source writes in some circuits' runs less what it writes in the replacement."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuitkit.circuits.evaluating.layers import Layers
from circuitkit.circuits.graphs.layout import Layout

_FEW_STREAMS = 2


class Changes:
    """The changes of the sources that have written so far, in circuits that run side by side.

    Of a head the change of its `z` is held, and what this writes is made when it is asked for, a layer at a time.
    """

    def __init__(self, layers: Layers, layout: Layout, n_circuits: int) -> None:
        self.layers, self.layout = layers, layout
        self.input: Float[Tensor, "circuit batch position d_model"] | None = None
        self.z: list[Float[Tensor, "circuit batch position head d_head"]] = []
        self.mlp: list[Float[Tensor, "circuit batch position d_model"]] = []

    def enter(self, stream: Tensor, replacement: Tensor) -> None:
        """Take what enters the first layer."""
        self.input = self._less(stream, replacement)

    def attend(self, z: Tensor, replacement: Tensor) -> None:
        """Take what a layer's heads write, as their map takes it."""
        self.z.append(self._less(z, replacement))

    def compute(self, written: Tensor, replacement: Tensor) -> None:
        """Take what a layer's MLP writes."""
        self.mlp.append(self._less(written, replacement))

    def _less(self, written: Tensor, replacement: Tensor) -> Tensor:
        wide = torch.promote_types(written.dtype, torch.float32)
        return written.to(wide) - replacement.to(written.device, wide)

    def summed(
        self,
        circuit: int,
        coefficients: Float[Tensor, "stream source"],
        like: Float[Tensor, "batch position d_model"],
        columns: Int[Tensor, " column"] | None = None,
    ) -> Float[Tensor, "stream batch position d_model"]:
        """Sums of one circuit's changes, one a row of coefficients of the sources that have written."""
        assert self.input is not None  # the run has begun
        total = like.new_zeros(len(coefficients), like.numel(), dtype=self.input.dtype)
        signs = coefficients.to(total)

        def at(change: Tensor) -> Tensor:
            part = change[circuit] if columns is None else change[circuit][:, columns.to(change.device)]
            return part.to(total.device)

        def add(rows: slice, written: Tensor) -> None:
            total.addmm_(signs[:, rows], written.reshape(rows.stop - rows.start, -1))

        if bool(coefficients[:, 0].any()):
            add(slice(0, 1), at(self.input))
        for layer, z in enumerate(self.z):
            self._add_heads(total, layer, at(z), coefficients, signs)
            row = self.layout.mlp_at(layer)
            if row < coefficients.shape[1] and bool(coefficients[:, row].any()):
                add(slice(row, row + 1), at(self.mlp[layer]))
        return total.view(len(coefficients), *like.shape)

    def _add_heads(
        self,
        total: Float[Tensor, "stream number"],
        layer: int,
        z: Float[Tensor, "batch position head d_head"],
        coefficients: Float[Tensor, "stream source"],
        signs: Float[Tensor, "stream source"],
    ) -> None:
        rows = self.layout.heads_at(layer)
        # A layer's MLP reads its heads where attention of the layers behind does not yet.
        if rows.stop > coefficients.shape[1]:
            return
        heads = coefficients[:, rows].any(0).nonzero().flatten().tolist()
        if not heads:
            return
        weight = self.layers.weight(layer).to(z.device)
        every = len(heads) == z.shape[2]
        some, weight = (z, weight) if every else (z[:, :, heads], weight[heads])
        if len(signs) <= _FEW_STREAMS:
            for stream, of_heads in zip(total, signs[:, rows][:, heads], strict=True):
                joined = (some * of_heads[:, None]).flatten(0, 1).flatten(1)
                stream.view(len(joined), -1).addmm_(joined, weight.flatten(0, 1))
            return
        written = torch.bmm(some.flatten(0, 1).transpose(0, 1), weight)
        total.addmm_(signs[:, rows][:, heads], written.reshape(len(heads), -1))
