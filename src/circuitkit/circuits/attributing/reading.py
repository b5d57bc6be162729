"""What comes back to each destination: the metric's gradient at the stream as every head and MLP reads it.

A head's gradient is kept as it is at its query, key or value, `d_head` wide. It becomes one at the stream, `d_model`
wide, when it is asked for, a layer at a time: through the head's slice of the projection and the norm's Jacobian. In
closed form that is a part that is linear in the head's gradient, once that is at the norm's scale, so that many passes
add up before it is made; and a part along each pass's stream, of which a number a token and head is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from circuitkit.circuits.attributing.entrances import Entrance, Projected, reads_of
from circuitkit.circuits.attributing.linear_maps import wide
from circuitkit.circuits.attributing.norms import Norm
from circuitkit.circuits.errors import CircuitError
from circuitkit.circuits.graphs.layout import Layout
from circuitkit.run.memory import memory

if TYPE_CHECKING:
    from circuitkit.model.model import Model

Unit = tuple[Float[Tensor, "batch position d_model"], Float[Tensor, "batch position 1"]]


class Received:
    """Gradients at what each destination of a batch reads, added up over passes.

    Args:
        model: the model.
        shape: batch and position.
        passes: how many are to be added up, where memory allows (see `full`).

    Raises:
        CircuitError: see `reads_of`.
    """

    def __init__(self, model: Model, shape: tuple[int, int], passes: int = 1) -> None:
        self.model, self.layout, self.reads, self.shape = model, Layout.of(model), reads_of(model), shape
        self.dtype = wide(model.hf.dtype)
        # Room is made beforehand: between a graph's tensors, sums would keep its memory from being given back.
        self._room = {
            (layer, kind): self._zeros(*shape, *entrance.heads)
            for layer, reads in enumerate(self.reads)
            for kind, entrance in reads.heads.items()
            if entrance.heads is not None
        }
        self._heads: dict[tuple[int, Projected], Tensor] = {}
        self._mlps = self._zeros(self.layout.n_layers, *shape, model.d_model)
        self._logits = self._zeros(*shape, model.d_model)
        # Each pass's stream at unit scale by layer and norm; how much along it each head's gradient goes.
        norms = [(layer, norm) for layer, reads in enumerate(self.reads) for norm in reads.norms_of_heads]
        a_pass = len(norms) * self._logits.numel() * self._logits.element_size()
        self.capacity = max(1, min(passes, memory(model, None) // max(1, a_pass)))
        if any(reads.needs_graph for reads in self.reads):
            self.capacity = 1
        units = self._zeros(len(norms), self.capacity, *shape, model.d_model)
        self._units: dict[tuple[int, Norm], Tensor] = dict(zip(norms, units, strict=True))
        self._along = {key: self._zeros(self.capacity, *room.shape[:-1]) for key, room in self._room.items()}
        self._offsets = {
            (layer, kind): entrance.offset(model, self._logits)
            for layer, reads in enumerate(self.reads)
            for kind, entrance in reads.heads.items()
            if entrance.norm is not None
        }
        self._passes = 0
        self._now: dict[tuple[int, Norm], Unit] = {}
        # What autograd has to go back through: the stream, what was made of it, and the gradient there.
        self._behind: dict[tuple[int, Projected | None], tuple[Tensor, Tensor, Tensor]] = {}

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=self.dtype, device=self.model.device)

    @property
    def full(self) -> bool:
        """Whether no further pass can be added: its gradients have to be used, and cleared, first."""
        return self._passes == self.capacity

    def clear(self) -> None:
        """Begin anew."""
        for room in (*self._room.values(), *self._along.values(), self._mlps, self._logits):
            room.zero_()
        self._heads.clear()
        self._behind.clear()
        self._passes = 0

    # What passes hand in

    def enter(self, layer: int, stream: Float[Tensor, "batch position d_model"]) -> None:
        """A pass's stream as it enters a layer."""
        reads = self.reads[layer]
        for norm in reads.norms:
            unit, root = norm.unit(stream.detach().to(self.model.device))
            if norm in reads.norms_of_heads:
                unit = self._units[layer, norm][self._passes].copy_(unit)
            self._now[layer, norm] = unit, root

    def heads(
        self,
        layer: int,
        kind: Projected,
        gradient: Float[Tensor, "batch position head d_head"],
        made: Float[Tensor, "batch position head d_head"],
    ) -> None:
        """The gradient at what heads made of the stream, and what they made."""
        entrance = self.reads[layer].heads[kind]
        gradient = gradient.to(self.model.device, self.dtype)
        if entrance.norm is not None:
            _, root = self._now[layer, entrance.norm]
            gradient = gradient * root[..., None]
            made = made.to(gradient) - self._offsets[layer, kind]
            self._along[layer, kind][self._passes] = (gradient * made).sum(-1) / self.model.d_model
        self._heads[layer, kind] = self._room[layer, kind].add_(gradient)

    def behind(self, layer: int, kind: Projected | None, stream: Tensor, handed: Tensor, gradient: Tensor) -> None:
        """A gradient that autograd has to take back from what was handed on to the stream; of the MLP's if no kind."""
        self._behind[layer, kind] = stream, handed, gradient

    def mlp(self, layer: int, gradient: Float[Tensor, "batch position d_model"]) -> None:
        """The gradient at an MLP's own copy of the stream; of a parallel one, at what its norm made."""
        gradient = gradient.to(self.model.device, self.dtype)
        entrance = self.reads[layer].parallel_mlp
        if entrance is not None and entrance.norm is not None:
            gradient = entrance.norm.pulled_back(gradient, *self._now[layer, entrance.norm])
        self._mlps[layer] += gradient

    def logits(self, gradient: Float[Tensor, "batch position d_model"]) -> None:
        """The gradient at the last stream."""
        self._logits += gradient.to(self.model.device, self.dtype)

    def done(self) -> None:
        """A pass has ended: its streams are known by their unit scale alone."""
        self._now.clear()
        self._passes += 1

    # What destinations read

    def attention(self, layer: int) -> Iterator[tuple[slice, Float[Tensor, "destination batch position d_model"]]]:
        """The gradient at what a layer's query, key and value heads read, a kind at a time, with their columns.

        Nothing is given where nothing came back.

        Raises:
            CircuitError: it holds NaN.
        """
        at = {"q": self.layout.queries_at, "k": self.layout.keys_at, "v": self.layout.values_at}
        for kind, entrance in self.reads[layer].heads.items():
            if (layer, kind) in self._heads:
                columns = at[kind](layer)
                made = self._zeros(columns.stop - columns.start, *self.shape, self.model.d_model)
                self._pull(layer, kind, entrance, made)
                yield columns, made

    def _pull(self, layer: int, kind: Projected, entrance: Entrance, out: Tensor) -> None:
        """Write into `out` the gradient at the stream as each head of a kind reads it."""
        gradient = self._heads[layer, kind]
        self._check(gradient, f"{kind} of layer {layer}")
        rows = gradient.flatten(0, 1).transpose(0, 1)
        weight = entrance.weight(self.model).to(rows.device)
        flat = out.view(len(out), -1, out.shape[-1])
        torch.bmm(rows, weight, out=flat)
        if entrance.norm is not None:
            units = self._units[layer, entrance.norm][: self._passes].flatten(1, 2).transpose(0, 1)
            along = self._along[layer, kind][: self._passes].flatten(1, 2).permute(1, 2, 0)
            # A matrix a token, heads by passes times passes by width, taken from all that token's heads at once.
            flat.transpose(0, 1).baddbmm_(along, units, alpha=-1)
        elif entrance.way == "graph":
            stream, handed, _ = self._behind[layer, kind]
            [back] = torch.autograd.grad(
                handed, stream, out.to(handed.device, handed.dtype), is_grads_batched=True, retain_graph=True
            )
            out.copy_(back)

    def mlps(self) -> Float[Tensor, "layer batch position d_model"]:
        """The gradient at what each layer's MLP reads; 0 where nothing came back.

        Raises:
            CircuitError: it holds NaN.
        """
        for layer in range(self.layout.n_layers):
            if (layer, None) in self._behind:
                stream, handed, gradient = self._behind[layer, None]
                [back] = torch.autograd.grad(handed, stream, gradient, retain_graph=True)
                self._mlps[layer] = back
            self._check(self._mlps[layer], f"what the MLP of layer {layer} reads")
        return self._mlps

    def last(self) -> Float[Tensor, "batch position d_model"]:
        """The gradient at the last stream.

        Raises:
            CircuitError: it holds NaN.
        """
        self._check(self._logits, "the last stream")
        return self._logits

    def _check(self, gradient: Tensor, where: str) -> None:
        if bool(torch.isnan(gradient.sum())):
            raise CircuitError(
                f"the metric's gradient at {where} holds NaN: look for a metric that divides by zero or takes the "
                "logarithm of it, or an overflow in half precision"
            )
