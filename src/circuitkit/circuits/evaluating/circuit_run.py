"""A model's own forward in which every destination reads what a circuit lets it read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from threading import get_ident
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from circuitkit.circuits.attributing.entrances import PROJECTED, Projected
from circuitkit.circuits.evaluating.layers import Layers
from circuitkit.circuits.evaluating.plan import Plan
from circuitkit.circuits.evaluating.reading_anew import BlockCall
from circuitkit.circuits.evaluating.replaced import Replacement
from circuitkit.circuits.evaluating.streams import Streams
from circuitkit.circuits.graphs.layout import Layout
from circuitkit.model import taps
from circuitkit.model.hooks import before_forward
from circuitkit.model.points import Point, first_tensor
from circuitkit.model.tokens import Pass, Tokens
from circuitkit.pairs import Reading
from circuitkit.run.cells import stacked
from circuitkit.run.run import forward


class CircuitRun:
    """Some circuits under way on a batch of prompts, side by side along the batch.

    Nothing is linearised. In each layer every head's query, key and value input is the layer's own norm and the head's
    own slice of the projection, of the stream that the circuit lets it read; each MLP, and the logits, likewise. The
    model's own stream goes on beside them untouched: it is what a destination reads that all sources lead into.

    Args:
        layers: how the model reads and writes.
        layout: its nodes.
        plans: what is read in each circuit.
        reading: the prompts, and whose logits are read.
        replacement: what edges outside the circuits carry.
        known: where the replacement says something; None where everywhere. Elsewhere nothing is replaced.
        streams_at_once: how many streams, of a prompt batch each, may be held beside each other.
        bytes_kept: what changes may keep of what sources write.
    """

    def __init__(
        self,
        layers: Layers,
        layout: Layout,
        plans: Sequence[Plan],
        reading: Reading,
        replacement: Replacement,
        known: Bool[Tensor, "batch column"] | None,
        streams_at_once: int,
        bytes_kept: int,
    ) -> None:
        self.layers, self.plans, self.reading = layers, plans, reading
        self.replacement, self.known, self.streams_at_once = replacement, known, streams_at_once
        tokens, n = reading.tokens, len(plans)
        self.tokens = Tokens(stacked(tokens.ids, n), stacked(tokens.mask, n))
        self.rows = len(tokens)
        self.streams = Streams(layers, layout, plans, replacement, known, bytes_kept)
        self.calls: dict[int, BlockCall] = {}
        self.projected: dict[Projected, Tensor] = {}
        self.made: dict[Projected, list[tuple[int, list[int], Tensor]]] = {}
        self._computing = False

    def logits(self) -> Float[Tensor, "circuit batch reads vocab"]:
        """The logits that are read, under each circuit."""
        n = len(self.plans)
        with self._held(), torch.no_grad():
            logits = forward(self.layers.model, self.tokens, stacked(self.reading.columns, n))
        return logits.view(n, self.rows, *logits.shape[1:])

    # What happens where

    @contextmanager
    def _held(self) -> Iterator[None]:
        model, layers = self.layers.model, self.layers
        actions: dict[Point, list[taps.Action]] = {}
        with ExitStack() as stack:
            for layer, (point, normed) in enumerate(layers.mlp_inputs):
                block = model.anatomy.blocks[layer].block
                enter = before_forward(block, partial(self._enter, layer))
                stack.callback(enter.remove)
                held: list[tuple[Point, taps.Action]] = [
                    *((layers.point(kind, layer), partial(self._project, layer, kind)) for kind in PROJECTED),
                    (layers.point("z", layer), partial(self._attended, layer)),
                    (point, partial(self._read_by_mlp, layer, normed)),
                    (layers.point("mlp_out", layer), partial(self._mlp_wrote, layer)),
                ]
                for at, act in held:
                    actions.setdefault(at, []).append(act)
            actions.setdefault(layers.point("resid_post", model.n_layers - 1), []).append(self._read_by_logits)
            mask = self.tokens.mask
            now, thread = Pass(mask, mask.shape[1], mask), get_ident()
            stack.enter_context(
                taps.holding(actions, {}, {}, lambda: now if get_ident() == thread and not self._computing else None)
            )
            yield

    def _enter(self, layer: int, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Compute what the layer's attention reads in each circuit, from what is written so far."""
        if self._computing:
            return
        own = self._apart(first_tensor((*args, *kwargs.values())))
        if layer == 0:
            self.streams.changes.enter(own, self.replacement.entering[0])
        self.calls[layer] = args, kwargs
        self._computing = True
        try:
            self._read_by_attention(layer, own)
        finally:
            self._computing = False

    def _read_by_attention(self, layer: int, own: Float[Tensor, "circuit batch position d_model"]) -> None:
        reads, call = self.layers.reads[layer], self.calls[layer]
        made: dict[Projected, list[tuple[int, list[int], Tensor]]] = {kind: [] for kind in PROJECTED}
        projections = reads.projections()
        for circuit, plan in enumerate(self.plans):
            readers = plan.attention[layer].readers
            for first in range(0, len(readers), self.streams_at_once):
                some = slice(first, first + self.streams_at_once)
                streams = self.streams.attention(layer, circuit, some, own[circuit])
                normed = reads.normed(streams.flatten(0, 1), call).view(streams.shape)
                for each, by in zip(normed, readers[some], strict=True):
                    for kind, heads in by.items():
                        made[kind].append((circuit, heads, projections.of(kind, each, heads)))
        self.made = made
        self._replaced_reads(layer, own)

    def _replaced_reads(self, layer: int, own: Tensor) -> None:
        """The queries, keys and values that the replacement's stream makes, where a head of any circuit has those."""
        reads, call = self.layers.reads[layer], self.calls[layer]
        of_layer = [plan.attention[layer] for plan in self.plans]
        wanted = [kind for kind in PROJECTED if any(bool(each.empty[kind].any()) for each in of_layer)]
        self.projected = {}
        if wanted:
            normed, projections = reads.normed(self.replacement.entering[layer].to(own), call), reads.projections()
            for kind in wanted:
                heads = list(range(len(of_layer[0].empty[kind])))
                self.projected[kind] = projections.of(kind, normed, heads)

    def _project(self, layer: int, kind: Projected, own: Tensor, now: Pass) -> Tensor | None:
        """Put in place each head's queries, keys or values."""
        made = self.made.pop(kind)
        if not made and kind not in self.projected:
            return None
        out = self._apart(own).clone()
        if kind in self.projected:
            empty = torch.stack([plan.attention[layer].empty[kind] for plan in self.plans]).to(out.device)
            there = empty[:, None, None, :, None] & self._known(out.device)[..., None, None]
            out = torch.where(there, self.projected[kind], out)
        for circuit, heads, value in made:
            out[circuit][:, :, heads] = value
        return out.flatten(0, 1)

    def _attended(self, layer: int, z: Tensor, now: Pass) -> None:
        self.streams.changes.attend(self._apart(self.layers.writers[layer].scaled(z)), self.replacement.z[layer])

    def _read_by_mlp(self, layer: int, normed: bool, own: Tensor, now: Pass) -> Tensor | None:
        """Put in place what the layer's MLP reads, or what its norm does."""
        # Where the norm lies before what is handed over, the stream is that which entered the layer.
        call = self.calls.pop(layer)
        stream = self._apart(first_tensor((*call[0], *call[1].values())) if normed else own)
        new = self.streams.mlps(layer, stream)
        if new is None:
            return None
        if not normed:
            return new.flatten(0, 1)
        self._computing = True
        try:
            return self.layers.reads[layer].normed(new.flatten(0, 1), call)
        finally:
            self._computing = False

    def _mlp_wrote(self, layer: int, out: Tensor, now: Pass) -> None:
        self.streams.changes.compute(self._apart(out), self.replacement.mlp[layer])

    def _read_by_logits(self, own: Tensor, now: Pass) -> Tensor | None:
        new = self.streams.last(self._apart(own), torch.unique(self.reading.columns).to(own.device))
        return None if new is None else new.flatten(0, 1)

    def _known(self, device: torch.device) -> Bool[Tensor, "#batch #column"]:
        if self.known is None:
            return torch.ones(1, 1, dtype=torch.bool, device=device)
        return self.known.to(device)

    def _apart(self, tensor: Float[Tensor, "row ..."]) -> Float[Tensor, "circuit batch ..."]:
        """A tensor of all rows by circuit."""
        return tensor.reshape(len(self.plans), self.rows, *tensor.shape[1:])
