"""How each layer of a model reads the stream and writes to it, by its own modules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from circuitkit.circuits.attributing.linear_maps import is_plain
from circuitkit.circuits.attributing.written import writers
from circuitkit.circuits.evaluating.reading_anew import AttentionInput, mlp_input
from circuitkit.model.points import Point
from circuitkit.model.site import Kind, Site

if TYPE_CHECKING:
    from circuitkit.model.model import Model


class Layers:
    """How each layer of a model reads and writes.

    Attributes:
        model: the model.
        reads: how each layer's attention reads.
        writers: how each layer's heads write.
        mlp_inputs: where each layer's MLP reads; see `mlp_input`.

    Raises:
        CircuitError: a layer's heads or MLP cannot be computed apart.
    """

    def __init__(self, model: Model) -> None:
        self.model, self.writers = model, writers(model)
        self.reads = [AttentionInput(model, layer) for layer in range(model.n_layers)]
        self.mlp_inputs = [mlp_input(model, layer) for layer in range(model.n_layers)]
        self._weights: dict[int, Tensor] = {}

    def point(self, kind: Kind, layer: int) -> Point:
        """Where a layer's site is."""
        return self.model.point(Site(kind, layer=layer))

    def weight(self, layer: int) -> Float[Tensor, "head d_head d_model"]:
        """What each head's `z` is written by."""
        if layer in self._weights:
            return self._weights[layer]
        writer = self.writers[layer]
        weight = writer.weight(self.model)
        # What has to be asked for by a vector at a time is asked for once.
        if not is_plain(writer.projection):
            self._weights[layer] = weight
        return weight
