"""The streams that destinations of some circuits read, while the circuits run."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from circuitkit.circuits.evaluating.changes import Changes
from circuitkit.circuits.evaluating.layers import Layers
from circuitkit.circuits.evaluating.plan import Mixtures, Plan
from circuitkit.circuits.evaluating.replaced import Replacement
from circuitkit.circuits.graphs.layout import Layout


class Streams:
    """Streams of circuits that run side by side, each a base and the changes of some sources.

    Args:
        layers: how the model writes.
        layout: its nodes.
        plans: what is read in each circuit.
        replacement: what edges outside the circuits carry.
        known: where the replacement says something; None where everywhere. Elsewhere streams are the run's own.
        bytes_kept: what may be kept of what sources write.
    """

    def __init__(
        self,
        layers: Layers,
        layout: Layout,
        plans: Sequence[Plan],
        replacement: Replacement,
        known: Bool[Tensor, "batch column"] | None,
        bytes_kept: int,
    ) -> None:
        self.layout, self.plans, self.replacement, self.known = layout, plans, replacement, known
        self.changes = Changes(layers, layout, plans, bytes_kept)
        # What sources before the layer under way add to its MLP's stream, by circuit.
        self._for_mlp: dict[int, Tensor] = {}

    def attention(
        self, layer: int, circuit: int, some: slice, own: Float[Tensor, "batch position d_model"]
    ) -> Float[Tensor, "stream batch position d_model"]:
        """Some of the mixed streams that a layer's attention reads in a circuit."""
        mixtures, mlp = self.plans[circuit].attention[layer].mixtures.select(some), self.plans[circuit].mlp[layer]
        coefficients = mixtures.coefficients
        # The MLP's stream has most of its sources in common: they are gone through once.
        along = some.start == 0 and bool(mlp.coefficients.any())
        if along:
            coefficients = torch.cat([coefficients, mlp.coefficients[:, : coefficients.shape[1]]])
        changed = self.changes.summed(circuit, coefficients, own)
        if along:
            self._for_mlp[circuit] = changed[-1:].clone()
            changed = changed[:-1]
        return self._on_base(mixtures, changed, own, self.replacement.entering[layer])

    def mlps(
        self, layer: int, own: Float[Tensor, "circuit batch position d_model"]
    ) -> Float[Tensor, "circuit batch position d_model"] | None:
        """What a layer's MLP reads in each circuit; None where that is the run's own in all."""
        mixtures = [plan.mlp[layer] for plan in self.plans]
        made = self._one_each(
            mixtures, own, self.replacement.before_mlp[layer], begun=self.layout.heads_at(layer).start
        )
        self._for_mlp.clear()
        return made

    def last(
        self, own: Float[Tensor, "circuit batch position d_model"], columns: Int[Tensor, " column"]
    ) -> Float[Tensor, "circuit batch position d_model"] | None:
        """What the logits read in each circuit, at some columns; None where that is the run's own in all."""
        assert self.replacement.leaving is not None  # its run has ended
        mixtures = [plan.logits for plan in self.plans]
        return self._one_each(mixtures, own, self.replacement.leaving, columns)

    def _one_each(
        self,
        mixtures: Sequence[Mixtures],
        own: Float[Tensor, "circuit batch position d_model"],
        replacement: Tensor,
        columns: Int[Tensor, " column"] | None = None,
        begun: int = 0,
    ) -> Float[Tensor, "circuit batch position d_model"] | None:
        if all(each.is_own for each in mixtures):
            return None
        new = own.clone()
        for circuit, each in enumerate(mixtures):
            if each.is_own:
                continue
            if columns is not None:
                some = own[circuit][:, columns]
                changed = self.changes.summed(circuit, each.coefficients, some, columns)
                new[circuit][:, columns] = self._on_base(each, changed, some, replacement, columns)[0]
                continue
            begun_sum = self._for_mlp.get(circuit)
            changed = self.changes.summed(
                circuit, each.coefficients, own[circuit], first=0 if begun_sum is None else begun
            )
            changed = changed if begun_sum is None else changed.add_(begun_sum)
            new[circuit] = self._on_base(each, changed, own[circuit], replacement)[0]
        return new

    def _on_base(
        self,
        mixtures: Mixtures,
        changed: Float[Tensor, "stream batch position d_model"],
        own: Float[Tensor, "batch position d_model"],
        replacement: Float[Tensor, "#batch #position d_model"],
        columns: Int[Tensor, " column"] | None = None,
    ) -> Float[Tensor, "stream batch position d_model"]:
        """Streams in the model's precision, from the changes, which are changed in place."""
        replacement = replacement.to(own.device)
        if columns is not None and replacement.shape[1] > 1:
            replacement = replacement[:, columns]
        for stream, replaced in zip(changed, mixtures.replaced.tolist(), strict=True):
            stream.add_(replacement if replaced else own)
        made = changed.to(own.dtype)
        if self.known is None:
            return made
        known = self.known.to(own.device)
        known = known if columns is None else known[:, columns]
        return torch.where(known[..., None], made, own)
