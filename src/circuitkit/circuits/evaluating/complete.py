"""Whether a circuit has all that a behaviour is made of: it and the whole model lose alike when parts are taken out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Unpack

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from circuitkit import metrics, statistics
from circuitkit.circuits.errors import CircuitError
from circuitkit.circuits.evaluating.replaced import Ablation
from circuitkit.circuits.evaluating.running import Runs, RunSettings
from circuitkit.circuits.graphs.graph import Graph
from circuitkit.circuits.graphs.layout import INPUT, LOGITS, Layout
from circuitkit.metrics import Compute, Metric
from circuitkit.pairs import Pairs
from circuitkit.saving import InOneFile
from circuitkit.statistics.cells import as_array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from circuitkit.model.model import Model

How = Literal["nothing", "random", "greedy"]


@dataclass(frozen=True, eq=False, repr=False)
class Completeness(InOneFile):
    """A circuit and the whole model, each without the same sets of the circuit's nodes.

    A circuit C that has everything loses what the model M loses: |F(C without K) − F(M without K)| is small for every
    set K of its nodes (Wang et al. 2022). A node is taken out by replacing all that it writes.

    Attributes:
        sets: the nodes of each K; the first is empty.
        how: how each was drawn: "random", each node with a chance of one half; "greedy", grown by the node that drives
            circuit and model apart most.
        circuit, model: the metric of each example without each set.
        empty: without any edge.
        complement: with the edges outside the circuit alone.
        metric, unit, ablation: what was measured, and what replaced edges carried.
        groups: the clusters that examples belong to; None where each stands alone.
        seed: of sets and intervals.
        provenance: model, data, versions, command.
    """

    _kind = "completeness"

    sets: tuple[tuple[str, ...], ...]
    how: tuple[How, ...]
    circuit: Float[Tensor, "set example"]
    model: Float[Tensor, "set example"]
    empty: Float[Tensor, " example"]
    complement: Float[Tensor, " example"]
    metric: str
    unit: str = ""
    ablation: Ablation = "patch"
    groups: Int[Tensor, " example"] | None = None
    seed: int = 0
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def differences(self) -> Float[Tensor, " set"]:
        """F(C without K) − F(M without K) of each set, the mean over examples."""
        return (self.circuit.double() - self.model.double()).mean(-1)

    @property
    def incompleteness(self) -> float:
        """The mean over random sets of what circuit and model differ by, in the metric's unit; NaN without any."""
        return self._mean_of("random")

    @property
    def worst(self) -> tuple[tuple[str, ...], float]:
        """The set that drives circuit and model apart most, and |F(C without K) − F(M without K)| there."""
        at = int(self.differences.abs().argmax())
        return self.sets[at], float(self.differences[at].abs())

    @property
    def behaviour(self) -> float:
        """What there is to lose: the whole model's mean metric less that without any edge."""
        return float(self.model[0].double().mean() - self.empty.double().mean())

    @property
    def complement_keeps(self) -> float:
        """The faithfulness of all edges outside the circuit, alone: near 0 where the circuit has everything.

        NaN where the whole model does what it does without any edge.
        """
        kept = float(self.complement.double().mean() - self.empty.double().mean())
        return kept / self.behaviour if self.behaviour else float("nan")

    def _mean_of(self, how: How) -> float:
        chosen = [at for at, each in enumerate(self.how) if each == how]
        return float(self.differences[chosen].abs().mean()) if chosen else float("nan")

    @cached_property
    def frame(self) -> pd.DataFrame:
        """A row a set: how it was drawn, its nodes, F of circuit and model without it, their difference, its interval.

        The interval is of 95 %, by bootstrap over examples or their groups; NaN where there is one alone. `share` is
        the difference as a share of `behaviour`.
        """
        difference = as_array(self.circuit) - as_array(self.model)
        low, high = interval_of(difference, self.groups, self.seed)
        return pd.DataFrame(
            {
                "how": self.how,
                "size": [len(each) for each in self.sets],
                "nodes": [" ".join(each) for each in self.sets],
                "circuit": as_array(self.circuit).mean(-1),
                "model": as_array(self.model).mean(-1),
                "difference": difference.mean(-1),
                "low": low,
                "high": high,
                "share": difference.mean(-1) / self.behaviour if self.behaviour else np.nan,
            }
        )

    def _strongest(self) -> pd.DataFrame:
        return self.frame.sort_values("difference", key=abs, ascending=False, kind="stable")

    def plot(self, *, axes: Axes | None = None) -> Axes:
        """Draw the circuit's metric against the whole model's where both are without the same nodes."""
        from circuitkit.plots.circuit_tests import completeness_scatter

        return completeness_scatter(self, axes=axes)

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        whole = abs(self.behaviour)
        n_random = self.how.count("random")

        def told(value: float) -> str:
            return f"{value:.3g}{unit}" + (f" ({_per_cent(value / whole)} of the behaviour)" if whole else "")

        parts = [f"Circuit and whole model differ by {told(abs(float(self.differences[0])))} in {self.metric}"]
        if n_random:
            parts.append(f", and by {told(self.incompleteness)} on average without {n_random} random sets of its nodes")
        nodes, most = self.worst
        if nodes:
            some = ", ".join(nodes[:6]) + (", …" if len(nodes) > 6 else "")
            parts.append(f"; most, by {told(most)}, without {some}")
        keeps = f"{_per_cent(self.complement_keeps)} of the behaviour" if whole else "an undefined share"
        return f"{''.join(parts)}. All edges outside the circuit, alone, keep {keeps}."

    __repr__ = __str__


def completeness(
    model: Model,
    graph: Graph,
    pairs: Pairs,
    metric: Metric | Compute | str = metrics.logit_difference,
    ablation: Ablation = "patch",
    *,
    sets: int = 20,
    greedy: int = 5,
    candidates: int = 10,
    seed: int = 0,
    **settings: Unpack[RunSettings],
) -> Completeness:
    """Measure whether a circuit and the whole model lose alike when the same nodes of the circuit are taken out.

    Args:
        sets: how many random sets of the circuit's nodes, each node with a chance of one half; drawn by the seed.
        greedy: how many nodes a set is grown to, each time by the one of some drawn candidates that drives circuit and
            model apart most. It is grown on the examples that it is measured on, so it tells the worst, not the usual.
        candidates: how many nodes are tried at each step.
        seed: of sets and intervals.
        settings: align, reference, by_position, batch_size, budget and progress, as of `run_circuit`.

    The other arguments and errors are those of `run_circuit`.

    Raises:
        CircuitError: the circuit has no heads or MLPs, or a count is below 0.

    Source: Wang et al. 2022, arXiv 2211.00593, sections 3.1 and 4.

    >>> model = ck.load("deductor-5k")
    >>> pairs = ck.tasks.deductions.pairs(model.tokenizer, n=3)
    >>> graph = ck.circuits.attribute(model, pairs, method="eap", progress=False)
    >>> found = completeness(model, graph, pairs, sets=2, greedy=1, progress=False)
    >>> bool(found.incompleteness < 1e-5)
    True
    """
    graph.check_fits(model)
    nodes = [name for name in graph.nodes if name not in (INPUT, LOGITS)]
    if min(sets, greedy) < 0 or candidates < 1:
        raise CircuitError(f"sets, greedy and candidates are counts; got {sets}, {greedy} and {candidates}")
    if not nodes:
        raise CircuitError("the circuit has no head and no MLP, so there is no set of its nodes to take out")
    runs = Runs.of(model, pairs, metric, ablation, **settings)
    rng = np.random.default_rng(seed)
    apart = _Apart(runs, graph)
    drawn = [_drawn(nodes, rng) for _ in range(sets)]
    random = apart.measured([(), *drawn], "completeness, random sets")
    empty, complement = runs.measured(
        torch.stack([torch.zeros_like(graph.members), graph.layout.reach & ~graph.members]), "completeness, complement"
    )
    grown, worst = apart.grown(nodes, min(greedy, len(nodes)), candidates, rng)
    values = torch.cat([random, *worst], dim=1)
    how: list[How] = ["nothing"]
    how += ["random"] * len(drawn)
    how += ["greedy"] * len(grown)
    return Completeness(
        sets=((), *drawn, *grown),
        how=tuple(how),
        circuit=values[0],
        model=values[1],
        empty=empty,
        complement=complement,
        metric=runs.metric.name,
        unit=runs.metric.unit,
        ablation=ablation,
        groups=runs.clusters,
        seed=seed,
        provenance=runs.provenance("circuits.completeness", graph, seed),
    )


@dataclass(frozen=True, eq=False)
class _Apart:
    """A circuit and the whole model run without the same nodes."""

    runs: Runs
    graph: Graph

    def measured(self, sets: Sequence[Sequence[str]], title: str) -> Float[Tensor, "2 set example"]:
        """The metric of the circuit, and of the model, without each set."""
        layout = self.graph.layout
        whole = [without_nodes(layout, start, each) for start in (self.graph.members, layout.reach) for each in sets]
        values = self.runs.measured(torch.stack(whole), title)
        return values.view(2, len(sets), -1)

    def grown(
        self, nodes: Sequence[str], size: int, candidates: int, rng: np.random.Generator
    ) -> tuple[list[tuple[str, ...]], list[Float[Tensor, "2 1 example"]]]:
        """Sets grown by the node that drives circuit and model apart most, and the metric without each."""
        grown: list[tuple[str, ...]] = []
        values: list[Tensor] = []
        for step in range(size):
            before = grown[-1] if grown else ()
            left = [node for node in nodes if node not in before]
            tried = [left[at] for at in rng.permutation(len(left))[:candidates]]
            measured = self.measured([(*before, node) for node in tried], f"completeness, greedy set, node {step + 1}")
            best = int((measured[0] - measured[1]).double().mean(-1).abs().argmax())
            grown.append((*before, tried[best]))
            values.append(measured[:, best : best + 1])
        return grown, values


def _drawn(nodes: Sequence[str], rng: np.random.Generator) -> tuple[str, ...]:
    """Each node with a chance of one half, and one of them where that leaves none."""
    inside = rng.random(len(nodes)) < 0.5
    inside[rng.integers(len(nodes))] |= not inside.any()
    return tuple(node for node, each in zip(nodes, inside.tolist(), strict=True) if each)


def _per_cent(share: float) -> str:
    # Rounded to a whole number, which has no sign where it is 0.
    return f"{round(100 * share)} %"


def without_nodes(
    layout: Layout, members: Bool[Tensor, "sources destinations"], nodes: Sequence[str]
) -> Bool[Tensor, "sources destinations"]:
    """Members but for the edges out of some nodes.

    >>> layout = Layout((1,), (1,), (False,))
    >>> int(layout.reach.sum()), int(without_nodes(layout, layout.reach, ["m0"]).sum())
    (8, 7)
    """
    kept = members.clone()
    kept[[layout.source(node) for node in nodes]] = False
    return kept


def interval_of(
    per_example: Float[np.ndarray, "cell example"], groups: Int[Tensor, " example"] | None, seed: int
) -> tuple[Float[np.ndarray, " cell"], Float[np.ndarray, " cell"]]:
    """The ends of each cell's 95 % bootstrap interval over examples or their groups; NaN where there is one alone."""
    clusters = per_example.shape[1] if groups is None else len(set(groups.tolist()))
    if clusters < 2:
        return np.full(len(per_example), np.nan), np.full(len(per_example), np.nan)
    low, high = statistics.bootstrap_mean(per_example, seed=seed, groups=groups)
    return low, high
