"""Whether a circuit has nothing that it does not need: what it loses by each of its parts, beside random parts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Unpack

import numpy as np
import pandas as pd
import scipy
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from circuitkit import metrics, statistics
from circuitkit.circuits.errors import CircuitError
from circuitkit.circuits.evaluating.complete import interval_of, without_nodes
from circuitkit.circuits.evaluating.random_ways import Way, random_way_beside
from circuitkit.circuits.evaluating.replaced import Ablation
from circuitkit.circuits.evaluating.running import Runs, RunSettings
from circuitkit.circuits.graphs.graph import Graph
from circuitkit.circuits.graphs.layout import INPUT, LOGITS, Layout
from circuitkit.metrics import Compute, Metric
from circuitkit.pairs import Pairs
from circuitkit.saving import InOneFile
from circuitkit.statistics.cells import Floats, as_array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from circuitkit.model.model import Model

Of = Literal["edges", "nodes"]
Members = Bool[Tensor, "sources destinations"]
_RESOLUTION = 1e-5
_LEVEL = 0.05


@dataclass(frozen=True, eq=False, repr=False)
class Minimality(InOneFile):
    """What a circuit loses by each of its edges or nodes, beside what inflated circuits lose by random ones.

    A part's contribution is F(C) − F(C without it), turned so that it is positive where the part helps. Of a part that
    is not needed it is like that of a random one: to the circuit a random way from input to logits is added, and of
    that an edge (or node) which the circuit has not is taken out again (Shi et al. 2024). A part counts as needed where
    it surely does more than a share `beyond` of random parts.

    Attributes:
        of: "edges" or "nodes".
        parts: their names, an edge's as `source->destination`.
        contributions: of each part, each example's.
        random: of random parts.
        whole: the metric of the circuit itself.
        metric, unit, ablation: what was measured, and what replaced edges carried.
        beyond: the share of random parts that a needed one does more than.
        untested: how many parts of the circuit were left out.
        groups: the clusters that examples belong to; None where each stands alone.
        seed: of random parts and intervals.
        provenance: model, data, versions, command.
    """

    _kind = "minimality"

    of: Of
    parts: tuple[str, ...]
    contributions: Float[Tensor, "part example"]
    random: Float[Tensor, "draw example"]
    whole: Float[Tensor, " example"]
    metric: str
    unit: str = ""
    ablation: Ablation = "patch"
    beyond: float = 0.9
    untested: int = 0
    groups: Int[Tensor, " example"] | None = None
    seed: int = 0
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shares(self) -> Floats:
        """For each part the share of random ones that it does more than, in magnitude; NaN without random ones.

        What is under 1e-5 of the metric's largest magnitude is rounding, and counts as nothing.
        """
        rounding = _RESOLUTION * float(self.whole.abs().max())
        own, drawn = (np.abs(as_array(each).mean(-1)) for each in (self.contributions, self.random))
        if not len(drawn):
            return np.full(len(own), np.nan)
        more = (own[:, None] > drawn[None]) & (own > rounding)[:, None]
        return np.asarray(more.mean(1))

    @property
    def p(self) -> Floats:
        """For each part the chance of such a share where it does more than a share `beyond` of random parts at most.

        Exact, binomial; NaN without random parts. With n of them it cannot be under `beyond` to the power of n.
        """
        n = len(self.random)
        found = scipy.stats.binom.sf(np.nan_to_num(self.shares) * n - 0.5, n, self.beyond)
        return np.where(np.isnan(self.shares), np.nan, found)

    @property
    def needed(self) -> Bool[np.ndarray, " part"]:
        """Which parts do more than a share `beyond` of random ones: p < 0.05, corrected over all parts (Holm)."""
        return np.asarray(statistics.holm(self.p) < _LEVEL)

    def plot(self, *, most: int = 40, axes: Axes | None = None) -> Axes:
        """Draw what the circuit loses by each part, the largest first, beside the reach of random parts."""
        from circuitkit.plots.circuit_tests import minimality_bars

        return minimality_bars(self, most=most, axes=axes)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """A row a part, the largest contribution first.

        Columns: `source` and `destination`, or `node`; `contribution` with the 95 % bootstrap interval `low` and
        `high`; `random_mean` and `random_high`, the mean and the 95th percentile of random parts' magnitudes; `share`
        of random parts that it does more than; `p`, `p_corrected` (Holm, over all parts) and `needed`.
        """
        values = as_array(self.contributions)
        low, high = interval_of(values, self.groups, self.seed)
        drawn = np.abs(as_array(self.random).mean(-1))
        names = ("source", "destination") if self.of == "edges" else ("node",)
        named = dict(zip(names, zip(*(part.split("->") for part in self.parts), strict=True), strict=True))
        columns: dict[str, Any] = {
            **named,
            "contribution": values.mean(-1),
            "low": low,
            "high": high,
            "random_mean": drawn.mean() if len(drawn) else np.nan,
            "random_high": np.quantile(drawn, 0.95) if len(drawn) else np.nan,
            "share": self.shares,
            "p": self.p,
            "p_corrected": statistics.holm(self.p),
            "needed": self.needed,
        }
        frame = pd.DataFrame(columns)
        order = frame["contribution"].abs().sort_values(ascending=False, kind="stable").index
        return frame.loc[order].reset_index(drop=True)

    @property
    def fewest(self) -> int:
        """How many random parts it takes to tell, of as many parts as there are, that one does more than they do."""
        return math.floor(math.log(_LEVEL / len(self.parts)) / math.log(self.beyond)) + 1

    @property
    def unneeded(self) -> tuple[str, ...]:
        """The parts that do no more than random ones, as far as can be told."""
        return tuple(part for part, needed in zip(self.parts, self.needed.tolist(), strict=True) if not needed)

    def __str__(self) -> str:
        n, unit = len(self.parts), f" {self.unit}" if self.unit else ""
        tested = f"{n} {self.of}" + (f" ({self.untested} more were not tried)" if self.untested else "")
        if not len(self.random):
            return f"Of {tested} nothing can be said: no random {self.of} beside the circuit were run."
        if self.fewest > len(self.random):
            return (
                f"Of {tested} nothing can be said: {len(self.random)} random {self.of} are too few to tell that one of "
                f"{n} does more than {100 * self.beyond:.0f} % of them, which takes {self.fewest} at least."
            )
        rest = self.unneeded
        some = ", ".join(rest[:5]) + (", …" if len(rest) > 5 else "")
        those = f"; of {len(rest)} that cannot be said: {some}" if rest else ""
        average = float(self.random.double().mean(-1).abs().mean())
        return (
            f"Of {tested}, {n - len(rest)} do more for {self.metric} than {100 * self.beyond:.0f} % of random ones "
            f"({len(self.random)} were run, and do {average:.2g}{unit} on average){those}."
        )

    __repr__ = __str__


def minimality(
    model: Model,
    graph: Graph,
    pairs: Pairs,
    metric: Metric | Compute | str = metrics.logit_difference,
    ablation: Ablation = "patch",
    *,
    of: Of = "edges",
    random: int = 100,
    beyond: float = 0.9,
    most: int | None = None,
    seed: int = 0,
    **settings: Unpack[RunSettings],
) -> Minimality:
    """Measure what a circuit loses by each of its edges or nodes, beside what is lost by random ones.

    It takes a run for each part, and two for each random one.

    Args:
        of: "edges", or "nodes" (heads and MLPs, with all edges out of them).
        random: how many random parts; drawn by the seed. 100 are enough to tell each of some 1,800 parts apart.
        beyond: the share of random parts that a needed one does more than.
        most: try no more parts than this, drawn by the seed; all if None.
        seed: of random parts and intervals.
        settings: align, reference, by_position, batch_size, budget and progress, as of `run_circuit`.

    The other arguments and errors are those of `run_circuit`.

    Raises:
        CircuitError: the circuit has no such parts, a count is below 0, or `beyond` is no share.

    Source: Wang et al. 2022, arXiv 2211.00593, section 4; Shi et al. 2024, arXiv 2410.13032, for the inflated circuits.

    >>> model = ck.load("deductor-5k")
    >>> pairs = ck.tasks.deductions.pairs(model.tokenizer, n=3)
    >>> graph = ck.circuits.attribute(model, pairs, method="eap", progress=False)
    >>> found = minimality(model, graph.top(3), pairs, random=4, progress=False)
    >>> len(found.frame), tuple(found.random.shape)
    (3, (4, 3))
    """
    graph.check_fits(model)
    if random < 0 or (most is not None and most < 1):
        raise CircuitError(f"random and most are counts; got {random} and {most}")
    if not 0 < beyond < 1:
        raise CircuitError(f"beyond is a share of the random parts, between 0 and 1, not {beyond}")
    rng = np.random.default_rng(seed)
    every = _parts(graph, of)
    chosen = range(len(every)) if most is None else sorted(rng.permutation(len(every))[:most].tolist())
    parts = [every[at] for at in chosen]
    inflated = [each for _ in range(random) if (each := _inflated(graph, of, rng)) is not None]
    runs = Runs.of(model, pairs, metric, ablation, **settings)
    without = [_without(graph.layout, graph.members, part) for part in parts]
    circuits = [graph.members, *without, *(one for pair in inflated for one in pair)]
    values = runs.measured(torch.stack(circuits), "minimality").double()
    sign = 1.0 if runs.metric.higher_is_better else -1.0
    of_random = values[1 + len(parts) :].view(len(inflated), 2, len(pairs))
    return Minimality(
        of=of,
        parts=tuple(parts),
        contributions=sign * (values[0] - values[1 : 1 + len(parts)]),
        random=sign * (of_random[:, 0] - of_random[:, 1]),
        whole=values[0],
        metric=runs.metric.name,
        unit=runs.metric.unit,
        ablation=ablation,
        beyond=beyond,
        untested=len(every) - len(parts),
        groups=runs.clusters,
        seed=seed,
        provenance=runs.provenance("circuits.minimality", graph, seed),
    )


def _parts(graph: Graph, of: Of) -> list[str]:
    layout = graph.layout
    if of == "nodes":
        parts = [name for name in graph.nodes if name not in (INPUT, LOGITS)]
    elif of == "edges":
        edges = graph.members.nonzero().tolist()
        parts = [f"{layout.sources[row]}->{layout.destinations[column]}" for row, column in edges]
    else:
        raise CircuitError(f"minimality is of 'edges' or of 'nodes', not of {of!r}")
    if not parts:
        raise CircuitError(f"the circuit has no {of}, so there is nothing to take out of it")
    return parts


def _without(layout: Layout, members: Members, part: str) -> Members:
    source, edge, destination = part.partition("->")
    if not edge:
        return without_nodes(layout, members, [source])
    kept = members.clone()
    kept[layout.source(source), layout.destination(destination)] = False
    return kept


def _inflated(graph: Graph, of: Of, rng: np.random.Generator) -> tuple[Members, Members] | None:
    """The circuit with a random way more, and that without a part of the way that the circuit has not."""
    layout = graph.layout
    way = random_way_beside(layout, graph.members, rng)
    if way is None:
        return None
    inflated = graph.members.clone()
    for edge in way:
        inflated[edge] = True
    new = _new_nodes(graph, way) if of == "nodes" else _new_edges(graph, way)
    if not new:
        return None
    return inflated, _without(layout, inflated, new[int(rng.integers(len(new)))])


def _new_edges(graph: Graph, way: Way) -> Sequence[str]:
    sources, destinations = graph.layout.sources, graph.layout.destinations
    return [f"{sources[row]}->{destinations[column]}" for row, column in way if not graph.members[row, column]]


def _new_nodes(graph: Graph, way: Way) -> Sequence[str]:
    touched = graph.touched
    return [graph.layout.sources[row] for row, _ in way if not touched[row]]
