"""A decoder's edges, their scores, and which of them are the circuit."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from circuitkit import plots
from circuitkit.circuits.errors import CircuitError
from circuitkit.circuits.graphs import connectivity, eap_ig_json, files, selection, tables
from circuitkit.circuits.graphs.checking import check_same, checked_members, checked_scores
from circuitkit.circuits.graphs.convention import By, Convention, Positive, Rule
from circuitkit.circuits.graphs.eap_ig_json import Shared
from circuitkit.circuits.graphs.layout import LOGITS, Layout
from circuitkit.showing import Shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from circuitkit.model.model import Model

Counted = Literal["all", "circuit"]


class Edge(NamedTuple):
    """One edge of a graph."""

    source: str
    destination: str
    score: float
    in_circuit: bool


@dataclass(frozen=True, eq=False)
class Graph(Shown):
    """What attribution found: a score for each edge of a decoder, and the edges that are the circuit.

    What selects (`top`, `threshold`, `prune`, `greedy`) gives a new graph with fewer members and the same scores, so
    calls chain and nothing is lost. `&`, `|` and `-` join the members of two graphs of one architecture, and keep the
    left one's scores. Arrays are held on the CPU.

    Attributes:
        layout: the nodes, and where each stands in the arrays.
        scores: of each edge, in the metric's unit; 0 where there is no edge.
        members: which edges are in the circuit; at first all.
        convention: how the scores were made, and what their sign says.
        per_example: each example's scores with their signs, for bootstraps; None where they were not kept.
        by_span: where positions were kept, the scores of each span of them.
        groups: the clusters that examples belong to; None where each stands alone.
        provenance: model, data, versions, command.

    Raises:
        CircuitError: shapes disagree with the layout, a score is NaN or infinite, or there is one where no edge is.

    >>> layout = ck.circuits.Layout((1,), (1,), (False,))
    >>> scores = torch.tensor([[1.0, 2, 0, -5, 4], [0, 0, 0, 0, -9], [0, 0, 0, 0, 3]])
    >>> graph = ck.circuits.Graph(layout, scores, layout.reach, ck.circuits.Convention("eap", "logit_difference"))
    >>> circuit = graph.top(4).prune()
    >>> circuit.size, circuit.nodes
    (3, ('input', 'm0', 'logits'))
    """

    layout: Layout
    scores: Float[Tensor, "sources destinations"]
    members: Bool[Tensor, "sources destinations"]
    convention: Convention
    per_example: Float[Tensor, "example sources destinations"] | None = None
    by_span: Mapping[str, Float[Tensor, "sources destinations"]] = field(default_factory=dict)
    groups: Int[Tensor, " example"] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        held: dict[str, Any] = {
            "scores": checked_scores(self.layout, self.scores, "scores"),
            "members": checked_members(self.layout, self.members),
            "by_span": {
                span: checked_scores(self.layout, scores, f"by_span[{span!r}]") for span, scores in self.by_span.items()
            },
        }
        if self.scores.ndim != 2 or any(scores.ndim != 2 for scores in self.by_span.values()):
            raise CircuitError("scores have two axes, sources and destinations; those of examples go to per_example")
        if self.per_example is not None:
            held["per_example"] = checked_scores(self.layout, self.per_example, "per_example")
            if self.per_example.ndim != 3:
                raise CircuitError(f"per_example has axes example, source, destination; got {self.per_example.ndim}")
        if self.groups is not None:
            held["groups"] = self.groups.detach().cpu()
            if self.groups.ndim != 1 or (self.per_example is not None and len(self.groups) != len(self.per_example)):
                raise CircuitError(f"groups must name one cluster an example; got shape {tuple(self.groups.shape)}")
        for name, value in held.items():
            object.__setattr__(self, name, value)

    # Selecting

    def top(self, n: int, by: By = "absolute") -> Graph:
        """Keep the `n` strongest members; equal ones are taken by place, sources first.

        `by="absolute"` ranks by magnitude, `"signed"` by how helpful an edge is, which takes harmful ones last. With
        fewer than `n` members all stay, and a warning says so.

        Raises:
            CircuitError: `n` is no count, or by a sign that is not known.
        """
        n = _counted(n)
        self._tell_too_few(n, self.size, "in the circuit")
        return self._with(selection.strongest(self._strengths(by), self._members, n))

    def threshold(self, tau: float, by: By = "absolute") -> Graph:
        """Keep the members whose strength is at least `tau`, in the metric's unit; an edge that is out stays out.

        Raises:
            CircuitError: `tau` is NaN, or negative where magnitudes are held against it; or by a sign that is not
                known.
        """
        if np.isnan(tau) or (by == "absolute" and tau < 0):
            raise CircuitError(f"a threshold of {tau} on {by} scores keeps nothing or everything; give one from 0 up")
        return self._with(self._members & (self._strengths(by) >= tau))

    def prune(self) -> Graph:
        """Drop, again and again, edges into nodes that nothing leads out of and out of nodes that nothing leads into.

        The input counts as led into, the logits as read; so what is left lies on ways from the input to the logits. A
        key or value that heads share is read as long as one of them is.
        """
        return self._with(selection.on_a_way(self.layout, self._members))

    def greedy(self, n: int, by: By = "absolute") -> Graph:
        """Keep `n` members grown backwards from the logits: next the strongest whose destination's node is in already.

        A node is in once an edge out of it was taken; a head brings in its query and its key and value. Equal ones are
        taken by place. Where fewer members lead to the logits, all those are taken, and a warning says so.

        Raises:
            CircuitError: `n` is no count, or by a sign that is not known.
        """
        n = _counted(n)
        kept = selection.grown(self.layout, self._strengths(by), self._members, n)
        self._tell_too_few(n, int(kept.sum()), "that lead to the logits")
        return self._with(kept)

    def whole(self) -> Graph:
        """The graph with every edge in the circuit."""
        return self.with_members(self.layout.reach)

    def empty(self) -> Graph:
        """The graph with no edge in the circuit."""
        return self.with_members(torch.zeros_like(self.members))

    def complement(self) -> Graph:
        """The graph whose circuit is every edge that is not in this one's."""
        return self.with_members(self.layout.reach & ~self.members)

    def with_members(self, members: Bool[Tensor, "sources destinations"]) -> Graph:
        """The graph with another circuit.

        Raises:
            CircuitError: another shape, no truth values, or a member where no edge is.
        """
        # The scores were checked when this graph was made, and may be large.
        other = copy.copy(self)
        object.__setattr__(other, "members", checked_members(self.layout, members))
        return other

    def of_span(self, span: str) -> Graph:
        """The graph with the scores of one span of positions, of those that attribution kept apart.

        Raises:
            CircuitError: no such span was kept; those that were are named.
        """
        if span not in self.by_span:
            kept = (
                f"it has {', '.join(map(repr, self.by_span))}" if self.by_span else "attribute with spans= to keep some"
            )
            raise CircuitError(f"this graph has no scores of a span {span!r}: {kept}")
        # Each example's scores are those of all positions.
        return replace(self, scores=self.by_span[span], per_example=None, by_span={}, groups=None)

    def __and__(self, other: Graph) -> Graph:
        check_same(self.layout, other.layout)
        return self.with_members(self.members & other.members)

    def __or__(self, other: Graph) -> Graph:
        check_same(self.layout, other.layout)
        return self.with_members(self.members | other.members)

    def __sub__(self, other: Graph) -> Graph:
        check_same(self.layout, other.layout)
        return self.with_members(self.members & ~other.members)

    @property
    def _members(self) -> Bool[np.ndarray, "sources destinations"]:
        members: Bool[np.ndarray, "sources destinations"] = self.members.numpy()
        return members

    def _strengths(self, by: By) -> Float[np.ndarray, "sources destinations"]:
        strengths: Float[np.ndarray, "sources destinations"] = self.convention.strengths(self.scores, by).numpy()
        return strengths

    def _with(self, members: Bool[np.ndarray, "sources destinations"]) -> Graph:
        return self.with_members(torch.from_numpy(members))

    def _tell_too_few(self, n: int, found: int, what: str) -> None:
        if n > found:
            warnings.warn(
                f"{n:,} edges were asked for, and there are {found:,} {what}: all of them are kept", stacklevel=3
            )

    # What is in the circuit

    @property
    def size(self) -> int:
        """Number of edges in the circuit."""
        return int(self.members.sum())

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes that the circuit's edges lead out of or into, from `input` to `logits`.

        An edge into a key or value that heads share counts for those of them that an edge leads out of; where there are
        none such, for all.
        """
        touched = [name for name, inside in zip(self.layout.sources, self.touched.tolist(), strict=True) if inside]
        logits = bool(self.members[:, self.layout.logits_at].any())
        return (*touched, LOGITS) if logits else tuple(touched)

    @property
    def touched(self) -> Bool[Tensor, " sources"]:
        """Which sources are nodes of the circuit (see `nodes`)."""
        return torch.from_numpy(selection.touched(self.layout, self._members))

    @property
    def heads(self) -> list[tuple[int, int]]:
        """The heads that are nodes of the circuit (see `nodes`), each as layer and head."""
        touched = self.touched
        return [
            (layer, head)
            for layer in range(self.layout.n_layers)
            for head in touched[self.layout.heads_at(layer)].nonzero().flatten().tolist()
        ]

    @property
    def mlps(self) -> list[int]:
        """The layers of the MLPs that are nodes of the circuit."""
        touched = self.touched
        return [layer for layer in range(self.layout.n_layers) if touched[self.layout.mlp_at(layer)]]

    def edge(self, source: str, destination: str) -> Edge:
        """One edge by the names of its ends, as in `edge("a9.h9", "logits")` or `edge("a5.h5", "a8.h6<v>")`.

        Raises:
            CircuitError: there is no such source or destination, or the source writes after the destination reads.
        """
        row, column = self.layout.source(source), self.layout.destination(destination)
        if not self.layout.reach[row, column]:
            raise CircuitError(f"there is no edge {source}->{destination}: {source} writes after {destination} reads")
        return Edge(source, destination, float(self.scores[row, column]), bool(self.members[row, column]))

    # Tables

    @property
    def edges(self) -> pd.DataFrame:
        """A row for each edge of the whole graph, in the order of the arrays.

        Columns: `source`, `destination`, `kind` (by which input it is read: q, k, v, mlp or logits), `score`,
        `in_circuit`, and the layers and heads of both ends: `source_layer` (−1 of the input), `source_head` (−1 of what
        is no head), `destination_layer` (the number of layers, of the logits), `destination_head` (−1 of what is no
        head; of a key or value, the key/value head).
        """
        return tables.edges(self.layout, self.scores.numpy(), self._members, self.layout.reach.numpy())

    @property
    def frame(self) -> pd.DataFrame:
        """The rows of `edges` that are in the circuit, the strongest first."""
        rows = tables.edges(self.layout, self.scores.numpy(), self._members, self._members)
        order = np.argsort(-rows["score"].abs().to_numpy(), kind="stable")
        return rows.iloc[order].reset_index(drop=True)

    def _strongest(self) -> pd.DataFrame:
        return self.frame[["source", "destination", "kind", "score"]]

    def importance(self, edges: Counted = "all") -> Float[Tensor, "layer head"]:
        """The sum of the magnitudes of the edges out of each head; NaN where a layer has no such head.

        Counts all edges, or those of the circuit alone. Source: Thinking Sparks (arXiv 2509.25758), which adds up the
        magnitudes of each example: that is what this gives of scores made with `examples="mean-absolute"`, up to the
        number of examples.

        Raises:
            CircuitError: of neither all edges nor the circuit's.
        """
        if edges not in ("all", "circuit"):
            raise CircuitError(f"importance counts edges='all' or edges='circuit', not {edges!r}")
        counted = self.layout.reach if edges == "all" else self.members
        return torch.from_numpy(tables.head_importance(self.layout, self.scores.numpy(), counted.numpy()))

    @property
    def complexity(self) -> pd.DataFrame:
        """A row a node: `node`, `layer`, `head`, `in_degree`, `out_degree` and `paths` from input to logits through it.

        See `connectivity.complexity`.
        """
        return connectivity.complexity(self.layout, self._members)

    # Pictures

    def plot(self, *, title: str | None = None, most: int = 300, axes: Axes | None = None) -> Axes:
        """Draw the circuit as a layered graph, its `most` strongest edges; see `plots.circuit_graph`."""
        return plots.circuit_graph(self, title=title, most=most, axes=axes)

    def head_map(self, edges: Counted = "all", *, title: str | None = None, axes: Axes | None = None) -> Axes:
        """Draw each head's importance as a map, layers upwards, with outlines round the circuit's heads.

        Raises:
            CircuitError: of neither all edges nor the circuit's.
        """
        told = "all edges" if edges == "all" else "edges of the circuit"
        inside = torch.zeros(self.layout.n_layers, max(self.layout.n_heads), dtype=torch.bool)
        for layer, head in self.heads:
            inside[layer, head] = True
        whose = self.provenance.get("read_from") or self.provenance.get("model")
        scores = f"{self.convention.method} of {self.convention.metric}"
        return plots.head_map(
            self.importance(edges),
            title=title or f"{scores}{f', {whose}' if whose else ''}\n{told} out of each head",
            unit=f"sum of |scores|{f', {self.convention.unit}' if self.convention.unit else ''}",
            outlined={"in the circuit": inside},
            axes=axes,
        )

    # Files

    def save(self, path: str | Path) -> Path:
        """Write the graph to one safetensors file, whole or not at all, and give its path.

        A folder gets `graph.safetensors`. Raises ValueError for a file of another suffix.
        """
        return files.save(self, path)

    @classmethod
    def load(cls, path: str | Path) -> Graph:
        """Read a graph that `save` wrote, from its file or its folder; it is equal to the one that was saved.

        Raises:
            FileNotFoundError: there is none.
            ValueError: the file is cut short, or holds something else.
            CircuitError: it is of another format number, or its arrays disagree with its layout.
        """
        return files.load(path)

    def to_eap_ig(self, path: str | Path, *, d_model: int | None = None, shared: Shared = "refuse") -> Path:
        """Write the graph as the JSON that the EAP-IG reference implementation reads, and give its path.

        That format holds scores, the circuit and the model's shape alone: not what the scores mean. The logits are
        always said to be in.

        Args:
            path: a .json file.
            d_model: the width of the stream, where the graph's provenance does not hold it.
            shared: of grouped-query layers, which the format does not know: "refuse", or "split": each query head of a
                group is given an equal part of a shared key's or value's score, and the membership. Read again with the
                layout, the parts add up.

        Raises:
            CircuitError: layers differ in heads, heads share keys and values, or no `d_model` is known.
        """
        return eap_ig_json.write(self, path, d_model, shared)

    @classmethod
    def from_eap_ig(
        cls,
        path: str | Path,
        *,
        positive: Positive,
        layout: Layout | None = None,
        metric: str = "an unnamed metric",
        higher_is_better: bool = True,
        method: str = "eap-ig",
        steps: int | None = None,
        rule: Rule | None = None,
    ) -> Graph:
        """Read a graph that the EAP-IG reference implementation wrote as JSON (Hanna et al. 2024, arXiv 2403.17806).

        Args:
            path: the file.
            positive: what a score above zero says, which the file does not tell and which differs between files: scores
                of a metric where more is better, as the MIB circuit track's of the logit difference, are below zero for
                edges that help, so there it is "corrupting raises the metric". With "unknown", edges can be chosen by
                magnitude alone.
            layout: of a grouped-query model, whose layout the file does not hold: scores of each query head's key and
                value are added up over the heads that share it, and an edge is in where one of theirs is.
            metric, higher_is_better, method, steps, rule: what else the graph's convention says.

        Raises:
            FileNotFoundError: there is no such file.
            CircuitError: it is in another format or of another architecture, or a node or edge is unknown, missing or
                no number.

        Warns where nodes are said to be in the circuit that no edge of it touches, or the other way round: the edges
        are what is read.
        """
        convention = Convention(
            method, metric, higher_is_better=higher_is_better, steps=steps, rule=rule, positive=positive
        )
        return eap_ig_json.read(path, convention, layout)

    # Its model and its equals

    def check_fits(self, model: Model) -> None:
        """Refuse a model of another architecture.

        Raises:
            CircuitError: the model's layout is another; the first difference is named.
        """
        check_same(self.layout, Layout.of(model), model.name)

    def __eq__(self, other: object) -> bool:
        """Equal arrays, convention and provenance."""
        if not isinstance(other, Graph):
            return NotImplemented
        mine, others = self._arrays(), other._arrays()
        # As JSON, where a tuple in the provenance equals the list that it loads as.
        told = [json.dumps(dict(graph.provenance), sort_keys=True) for graph in (self, other)]
        return (
            self.layout == other.layout
            and self.convention == other.convention
            and told[0] == told[1]
            and mine.keys() == others.keys()
            and all(mine[name].dtype == others[name].dtype and mine[name].equal(others[name]) for name in mine)
        )

    __hash__ = None  # type: ignore[assignment]  # compared by value, and its tensors can change

    def _arrays(self) -> dict[str, Tensor]:
        named = {"scores": self.scores, "members": self.members, "per_example": self.per_example, "groups": self.groups}
        spans = {f"by_span.{name}": scores for name, scores in self.by_span.items()}
        return {name: array for name, array in named.items() if array is not None} | spans

    def __repr__(self) -> str:
        nodes = self.nodes
        return (
            f"Graph({self.size:,} of {self.layout.n_edges:,} edges in the circuit, {len(nodes)} of "
            f"{len(self.layout.nodes)} nodes ({len(self.heads)} heads, {len(self.mlps)} MLPs); {self.convention})"
        )


def _counted(n: int) -> int:
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 0:
        raise CircuitError(f"a circuit has a whole number of edges from 0 up, not {n!r}")
    return int(n)
