"""The runs that nodes' scores are made of: activations of both runs, and the metric's gradient at each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace as with_fields
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from circuitkit.circuits.attributing.linear_maps import wide
from circuitkit.circuits.attributing.methods import Batch, Settings
from circuitkit.circuits.attributing.node_scores import Node, nodes_of
from circuitkit.circuits.attributing.passes import INPUT, frozen_weights, read_logits
from circuitkit.circuits.errors import CircuitError
from circuitkit.circuits.graphs.layout import Layout
from circuitkit.metrics import Targets
from circuitkit.model.site import Site
from circuitkit.run.cache import Cache
from circuitkit.run.interventions import replace
from circuitkit.run.run import forward, nan_advice, nan_row

if TYPE_CHECKING:
    from circuitkit.model.model import Model

Scores = Float[Tensor, "kept example node"]
"""Of each example: over all its positions, then over those of each span."""
Places = dict[Site, slice]
"""Which nodes are the heads of each whole site."""


def places_of(layout: Layout) -> Places:
    """Where the nodes of each site stand.

    >>> places_of(Layout((2,), (1,), (False,)))[Site("q", layer=0)]
    slice(1, 3, None)
    """
    found: Places = {}
    for number, node in enumerate(nodes_of(layout)):
        place = node.site.place
        found[place] = slice(found[place].start if place in found else number, number + 1)
    return found


class NodeRuns:
    """A batch's clean and corrupt runs.

    Raises:
        CircuitError: logits hold NaN.
    """

    def __init__(self, model: Model, batch: Batch, settings: Settings) -> None:
        self.model, self.batch, self.settings, self.aligned = model, batch, settings, batch.aligned
        self.layout = Layout.of(model)
        self.places = places_of(self.layout)
        self.clean, logits = self._seen(clean=True)
        corrupt, _ = self._seen(clean=False)
        self.targets: Targets = self.aligned.targets
        if settings.metric.needs_clean:
            self.targets = with_fields(self.targets, clean_logits=read_logits(logits, settings.metric))
        self._corrupt = corrupt

    def _seen(self, *, clean: bool) -> tuple[Cache, Tensor]:
        reading = self.aligned.clean if clean else self.aligned.corrupt
        with self.model.intervene((), capture=list(self.places)) as session, torch.no_grad():
            logits = forward(self.model, reading.tokens, reading.columns)
        if (row := nan_row(logits)) is not None:
            raise CircuitError(f"the logits of row {reading.first_row + row} hold NaN: {nan_advice(self.model)}")
        return session.cache, logits

    @cached_property
    def differences(self) -> dict[Site, Float[Tensor, "batch position *head width"]]:
        """Corrupt less clean activations at clean columns; 0 on padding and where nothing stands for a column."""
        made = {}
        for site in self.places:
            dtype = wide(self.clean[site].dtype)
            made[site] = self.aligned.difference(self._corrupt[site].to(dtype), self.clean[site].to(dtype))
        return made

    @cached_property
    def kept(self) -> Tensor:
        """Which columns count: `[kept, batch, position]`, all first, then each span's."""
        mask = self.aligned.clean.tokens.mask
        return torch.cat([mask[None], self.batch.spans.to(mask.device)])

    def graph(self, alpha: float = 1.0, drops: bool = False) -> GraphRun:
        """A run whose gradients can be asked for, at a point of the way from the corrupt (0) to the clean input (1)."""
        mixed = self.aligned.between(self._corrupt[INPUT], self.clean[INPUT], alpha)
        return GraphRun(self, mixed, drops=drops)

    def held(self, gradients: Mapping[Site, Tensor]) -> Scores:
        """Differences of activations held against gradients."""
        scores = torch.zeros(len(self.kept), len(self.aligned), self.places_end)
        for site, at in self.places.items():
            change = self.differences[site]
            by_token = (change * gradients[site].to(change)).sum(-1)
            by_token = by_token if by_token.ndim == 3 else by_token[..., None]
            scores[..., at] = torch.einsum("bph,kbp->kbh", by_token, self.kept.to(by_token)).to(scores)
        return scores

    @property
    def places_end(self) -> int:
        """Number of nodes."""
        return len(nodes_of(self.layout))

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes, in the order of scores."""
        return nodes_of(self.layout)


class GraphRun:
    """One forward pass whose graph is kept, for one backward pass or many.

    Args:
        runs: the batch.
        entering: what enters the first layer.
        drops: whether gradients through single layers may be dropped.
    """

    def __init__(self, runs: NodeRuns, entering: Float[Tensor, "batch position d_model"], *, drops: bool) -> None:
        self.runs, self._dropped = runs, -1
        model, reading, metric = runs.model, runs.aligned.clean, runs.settings.metric
        written = [Site(kind, layer=layer) for kind in ("attn_out", "mlp_out") for layer in range(model.n_layers)]
        sites = list(dict.fromkeys([*runs.places, *(written if drops else [])]))
        begun = [replace(INPUT, entering)]
        with frozen_weights(model.hf), torch.enable_grad():
            with model.intervene(begun, capture=sites, gradients=True) as session:
                logits = forward(model, reading.tokens, reading.columns)
            values = metric(read_logits(logits, metric), runs.targets.to(logits.device))
        if not values.requires_grad:
            raise CircuitError(
                f"metric {metric.name!r} gives values without a gradient: compute them from the logits by operations "
                "that torch differentiates (no argmax, comparison, .detach() or numpy)"
            )
        self._lost, self._cache = -values.sum(), session.cache
        if drops:
            for site in written:
                assert site.layer is not None
                self._cache[site].register_hook(self._dropping(site.layer))  # type: ignore[no-untyped-call]  # torch's own has no types

    def _dropping(self, layer: int) -> Callable[[Tensor], Tensor | None]:
        return lambda gradient: torch.zeros_like(gradient) if self._dropped == layer else None

    def gradients(self, *, dropped: int | None = None, keep: bool = False) -> dict[Site, Tensor]:
        """The gradient of minus the metric at every node's activation.

        Args:
            dropped: a layer through whose attention and MLP none goes back.
            keep: whether more are to be asked for.

        Raises:
            CircuitError: the metric does not hang on an activation, or a gradient is NaN.
        """
        self._dropped = -1 if dropped is None else dropped
        sites = list(self.runs.places)
        found = torch.autograd.grad(
            self._lost, [self._cache[site] for site in sites], retain_graph=keep, allow_unused=True
        )
        for site, gradient in zip(sites, found, strict=True):
            if gradient is None:
                raise CircuitError(f"the metric does not hang on {site}, so that its nodes have no scores")
            if bool(torch.isnan(gradient.sum())):
                raise CircuitError(
                    f"the metric's gradient at {site} holds NaN: look for a metric that divides by zero, or an "
                    "overflow in half precision"
                )
        gradients = dict(zip(sites, found, strict=True))
        if dropped is not None:
            # Autograd gives what arrives at a tensor that is asked for, before what was hooked on it.
            own = Site("mlp_out", layer=dropped)
            gradients[own] = torch.zeros_like(gradients[own])
        return gradients

    def by_dropped_layer(self) -> Iterator[dict[Site, Tensor]]:
        """The gradients with each layer dropped in turn."""
        layers = range(self.runs.model.n_layers)
        for layer in layers:
            yield self.gradients(dropped=layer, keep=layer != layers[-1])
