"""Circuits of growing size run alone, beside random circuits and circuits of the largest magnitudes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Unpack

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from circuitkit import metrics
from circuitkit.circuits.errors import CircuitError
from circuitkit.circuits.evaluating.baselines import Match, magnitudes, random_circuits
from circuitkit.circuits.evaluating.choosing import Choice, Select
from circuitkit.circuits.evaluating.curve_outcome import Curve
from circuitkit.circuits.evaluating.replaced import Ablation
from circuitkit.circuits.evaluating.resampling import alike
from circuitkit.circuits.evaluating.running import Runs, RunSettings
from circuitkit.circuits.graphs.convention import By
from circuitkit.circuits.graphs.graph import Graph
from circuitkit.metrics import Compute, Metric
from circuitkit.pairs import Pairs

if TYPE_CHECKING:
    from circuitkit.model.model import Model

MIB_SIZES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""The shares of all edges that MIB (arXiv 2504.13151) runs."""

Members = Bool[Tensor, "sources destinations"]


def curve(
    model: Model,
    graph: Graph,
    pairs: Pairs,
    metric: Metric | Compute | str = metrics.logit_difference,
    sizes: Sequence[float] = MIB_SIZES,
    by: By = "signed",
    ablation: Ablation = "patch",
    select: Select = "top",
    *,
    prune: bool = True,
    controls: int = 20,
    match: Match = "actual",
    magnitude: bool = True,
    seed: int = 0,
    **settings: Unpack[RunSettings],
) -> Curve:
    """Run circuits of growing size alone, and take the areas under their faithfulness (CPR) and beside it (CMD).

    MIB's definitions: sizes are shares of all edges of the graph (rounded down), of which the strongest are taken and
    pruned; f is of means over examples; areas are trapezoids over the share that was asked for. MIB takes CPR of edges
    by sign and CMD by magnitude, so both need a curve each: `by="signed"` and `by="absolute"`. The graph's own members
    play no part; all its edges are ranked anew.

    Args:
        model: the model.
        graph: its scores rank the edges.
        pairs: what circuits run on; others than those of the scores, for an estimate that does not flatter.
        metric: what is measured.
        sizes: shares of all edges, rising, above 0 and up to 1.
        by: rank by how helpful edges are, or by magnitude.
        ablation: what edges outside a circuit carry; see `run_circuit`.
        select: the strongest edges wherever they are, or grown backwards from the logits.
        prune: drop edges on no way from the input to the logits.
        controls: how many random circuits of each size come beside.
        match: random circuits have as many edges as the circuit has left after pruning ("actual"), or were asked for as
            many ("requested", MIB's random baseline, which pruning leaves next to nothing of).
        magnitude: run circuits of the edges of largest magnitude too; see `magnitudes`.
        seed: of random circuits and intervals.
        settings: align, reference, by_position, batch_size, budget and progress, as of `run_circuit`.

    Raises:
        CircuitError: the graph is of another architecture or has no signs to rank by, the sizes are no rising shares,
            or the empty circuit scores as the whole model does.
        PairError: pairs that cannot be aligned.

    Source: Mueller et al. 2025 (MIB), arXiv 2504.13151.

    >>> model = ck.load("deductor-5k")
    >>> pairs = ck.tasks.deductions.pairs(model.tokenizer, n=4)
    >>> graph = ck.circuits.attribute(model, pairs, method="eap", progress=False)
    >>> found = curve(model, graph, pairs, sizes=(0.1, 1.0), controls=2, progress=False)
    >>> round(float(found.frame["faithfulness"][1]), 3)
    1.0
    """
    graph.check_fits(model)
    fractions = _checked(sizes)
    if controls < 0:
        raise CircuitError(f"controls is how many random circuits come beside each size, 0 or more, not {controls}")
    edges = [int(share * graph.layout.n_edges) for share in fractions]
    choices = [Choice(n, None, by, select, prune) for n in edges]
    circuits = _Circuits.of(graph, choices, controls, match, seed)
    runs = Runs.of(model, pairs, metric, ablation, **settings)
    if magnitude:
        align = settings.get("align", "tokens")
        ranked = magnitudes(model, pairs, metric, align=align, batch_size=runs.batch_size, progress=runs.progress)
        circuits.add_magnitudes(ranked, choices)
    values = _measured(runs, circuits.every)
    empty, clean = _run_alone(runs, graph), runs.clean()
    whole, none = (float(each.double().mean()) for each in (clean, empty))
    if alike(whole, none):
        raise CircuitError(
            f"{model.name} scores {whole:.4g} whole and with every edge cut, so circuits cannot "
            "have a share of anything: take pairs that the model tells apart, or another metric"
        )
    found, drawn, beside = circuits.apart(values)
    return Curve(
        fractions=fractions,
        requested=tuple(edges),
        sizes=_sizes(circuits.found),
        per_example=found,
        clean=clean,
        empty=empty,
        random=drawn,
        random_sizes=torch.tensor([_sizes(each) for each in circuits.random]).reshape(controls, len(edges)),
        magnitude=beside,
        magnitude_sizes=_sizes(circuits.magnitude),
        settings={
            "title": f"Circuits of {graph.convention.method}, {model.name}",
            "metric": runs.metric.name,
            "unit": runs.metric.unit,
            "by": by,
            "select": select,
            "prune": prune,
            "match": match,
            "ablation": ablation,
            "n_edges": graph.layout.n_edges,
            "seed": seed,
        },
        groups=runs.clusters,
        provenance=runs.provenance("circuits.curve", graph, seed),
    )


@dataclass(eq=False)
class _Circuits:
    """The circuits of each size: those found, random draws of each, and those of the largest magnitudes."""

    found: list[Members]
    random: list[list[Members]]
    magnitude: list[Members]

    @classmethod
    def of(cls, graph: Graph, choices: Sequence[Choice], controls: int, match: Match, seed: int) -> _Circuits:
        found = [choice.of(graph).members for choice in choices]
        drawn = random_circuits(graph.layout, choices, _sizes(found), controls, match, seed)
        return cls(found, drawn, [])

    def add_magnitudes(self, ranked: Graph, choices: Sequence[Choice]) -> None:
        """Those of another graph's largest scores, cut by the same rules."""
        self.magnitude = [
            Choice(each.n, None, "absolute", each.select, each.prune).of(ranked).members for each in choices
        ]

    @property
    def every(self) -> list[Members]:
        """All of them, one behind the other."""
        return [*self.found, *(each for draw in self.random for each in draw), *self.magnitude]

    def apart(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Values of all, apart again: found, random `[draw, size, example]`, of magnitudes."""
        n, random = len(self.found), len(self.random)
        drawn = values[n : n * (1 + random)].reshape(random, n, values.shape[-1])
        return values[:n], drawn, values[n * (1 + random) :] if self.magnitude else None


def _measured(runs: Runs, circuits: Sequence[Members]) -> Tensor:
    """Each circuit's values; those that are alike (all whole ones, all empty ones) are run once."""
    packed = [np.packbits(each.numpy()).tobytes() for each in circuits]
    once = dict(zip(packed, circuits, strict=True))
    place = {key: at for at, key in enumerate(once)}
    values = runs.measured(torch.stack(list(once.values())), "running circuits")
    return values[[place[key] for key in packed]]


def _run_alone(runs: Runs, graph: Graph) -> Tensor:
    return runs.measured(torch.zeros_like(graph.members)[None], "running the empty circuit")[0]


def _sizes(circuits: Sequence[Members]) -> tuple[int, ...]:
    return tuple(int(each.sum()) for each in circuits)


def _checked(sizes: Sequence[float]) -> tuple[float, ...]:
    shares = tuple(float(share) for share in sizes)
    rising = all(one < other for one, other in pairwise(shares))
    if len(shares) < 2 or not rising or not 0 < shares[0] <= shares[-1] <= 1:
        raise CircuitError(
            f"sizes are two or more shares of all edges, rising, above 0 and up to 1, such as 0.01, 0.1, 1; not "
            f"{list(shares)}"
        )
    return shares
