"""AtP*: attribution patching whose two known blind spots are mended.

Queries and keys get the QK fix (see `qk_fix`), since a saturated softmax hides them from a gradient. GradDrop is for
effects that cancel: a node's direct effect on the metric and what later layers make of it may have opposite signs and
add up to nothing, to first order. So the gradient is taken once for each layer with nothing going back through what
that layer's attention and MLP write (the skip past them stays), and the magnitudes of the scores are averaged: where
two paths cancel, dropping a layer of one of them leaves the other.

The form. With layer l dropped a node's score is what it does by all paths that do not lead through l. A node in layer l
itself then scores 0, since all its paths begin there; so of a node in a layer at most L − 1 of the L terms tell of it,
and where nothing cancels and no path leads through other layers each of these is its whole score. Hence 1 / (L − 1),
which gives back the magnitude of plain attribution there. The input lies in no layer, and none of its terms is empty:
it is averaged over all L. Scores are magnitudes.

Kramár et al. 2024 (arXiv 2403.00745), sections 3.1 and 3.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from circuitkit.circuits.attributing.node_runs import NodeRuns, Scores
from circuitkit.circuits.attributing.qk_fix import Change, Part, SoftmaxAnew, taken
from circuitkit.circuits.errors import CircuitError
from circuitkit.model.site import Site

if TYPE_CHECKING:
    from circuitkit.circuits.attributing.methods import Batch, Settings
    from circuitkit.model.model import Model

_PARTS: tuple[Part, ...] = ("q", "k")


def atp_star(model: Model, batch: Batch, settings: Settings, *, qk_fix: bool, grad_drop: bool) -> Scores:
    """Scores of attribution patching with the QK fix, GradDrop, both or neither.

    Raises:
        CircuitError: GradDrop of a model with a single layer, which has nothing to drop.
    """
    if grad_drop and model.n_layers < 2:
        raise CircuitError(
            "GradDrop drops a layer from the gradient of the others: with one layer give grad_drop=False"
        )
    runs = NodeRuns(model, batch, settings)
    fix = _QKFix(runs) if qk_fix else None
    graph = runs.graph(drops=grad_drop)

    def scored(gradients: Mapping[Site, Tensor]) -> Scores:
        scores = runs.held(gradients)
        if fix is not None:
            fix.put(gradients, scores)
        settings.tick()
        return scores

    if not grad_drop:
        return scored(graph.gradients())
    total = sum(scored(gradients).abs() for gradients in graph.by_dropped_layer())
    assert isinstance(total, Tensor)  # there are layers
    layers = [model.n_layers if node.kind == "input" else model.n_layers - 1 for node in runs.nodes]
    return total / torch.tensor(layers)


class _QKFix:
    """What corrupt queries and keys change in each layer's `z`, through the softmax itself."""

    def __init__(self, runs: NodeRuns) -> None:
        self.runs = runs
        model, tokens = runs.model, runs.aligned.clean.tokens
        self._kept: dict[tuple[int, Part], list[Change]] = {}
        self._anew: list[SoftmaxAnew] = []
        for layer in range(model.n_layers):
            sites = [Site(kind, layer=layer) for kind in ("resid_pre", "q", "k", "z")]
            clean = model.run(tokens, capture=sites, logits_at=-1).cache
            self._anew.append(SoftmaxAnew(model, tokens, layer, clean))

    def put(self, gradients: Mapping[Site, Tensor], scores: Scores) -> None:
        """Put the fixed scores of queries and keys in the place of those of plain attribution."""
        for layer, anew in enumerate(self._anew):
            gradient = gradients[Site("z", layer=layer)]
            for part in _PARTS:
                at = self.runs.places[Site(part, layer=layer)]
                effects = taken(self._changes(anew, part), gradient, at.stop - at.start)
                # A query changes its own row of the pattern alone; keys' changes meet in one softmax.
                kept = self.runs.kept.to(effects)
                joined = torch.einsum("cbph,cbp->cbh", effects, kept) if part == "q" else effects.sum(2)
                scores[..., at] = joined.to(scores)

    def _changes(self, anew: SoftmaxAnew, part: Part) -> list[Change]:
        """A copy for all positions, and one for each span."""
        key = anew.layer, part
        if key not in self._kept:
            site = Site(part, layer=anew.layer)
            change = self.runs.differences[site] * self.runs.kept[..., None, None].to(
                self.runs.differences[site].device
            )
            old = anew.clean[site]
            with torch.no_grad():
                self._kept[key] = list(anew.changes(part, (old.to(change.dtype) + change).to(old.dtype)))
        return self._kept[key]
