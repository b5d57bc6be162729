"""Scores of nodes: heads' outputs, queries, keys and values, MLPs and the input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuitkit import saving, statistics
from circuitkit.circuits.errors import CircuitError
from circuitkit.circuits.graphs.convention import By, Convention
from circuitkit.circuits.graphs.layout import INPUT, Layout
from circuitkit.model.site import Site
from circuitkit.showing import Shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NodeKind = Literal["input", "q", "k", "v", "z", "mlp"]
KINDS: tuple[NodeKind, ...] = get_args(NodeKind)
_FORMAT = 1
_SHOWN: dict[NodeKind, str] = {
    "input": "input",
    "q": "queries",
    "k": "keys",
    "v": "values",
    "z": "head outputs",
    "mlp": "MLPs",
}


class Node(NamedTuple):
    """A node: its name, what it is, and where; −1 where it lies in no layer, or is no head."""

    name: str
    kind: NodeKind
    layer: int
    head: int

    @property
    def site(self) -> Site:
        """Where its activation is."""
        if self.kind == "input":
            return Site("resid_pre", layer=0)
        if self.kind == "mlp":
            return Site("mlp_out", layer=self.layer)
        return Site(self.kind, layer=self.layer, head=self.head)


def nodes_of(layout: Layout) -> tuple[Node, ...]:
    """All nodes: the input, then for each layer the queries, keys, values and outputs of its heads and its MLP.

    Heads' outputs are called as sources are, and their queries, keys and values as destinations.

    >>> [node.name for node in nodes_of(Layout((2,), (1,), (False,)))]
    ['input', 'a0.h0<q>', 'a0.h1<q>', 'a0.kv0<k>', 'a0.kv0<v>', 'a0.h0', 'a0.h1', 'm0']
    """
    found = [Node(INPUT, "input", -1, -1)]
    for layer in range(layout.n_layers):
        columns: dict[NodeKind, slice] = {
            "q": layout.queries_at(layer),
            "k": layout.keys_at(layer),
            "v": layout.values_at(layer),
        }
        for kind, at in columns.items():
            found += [Node(name, kind, layer, head) for head, name in enumerate(layout.destinations[at])]
        found += [Node(name, "z", layer, head) for head, name in enumerate(layout.sources[layout.heads_at(layer)])]
        found.append(Node(layout.sources[layout.mlp_at(layer)], "mlp", layer, -1))
    return tuple(found)


@dataclass(frozen=True, eq=False, repr=False)
class NodeScores(Shown):
    """A score for each node of a decoder, of every example.

    Attributes:
        layout: the decoder's.
        per_example: each example's scores, by the places of `nodes`.
        convention: how they were made, and what their sign says; GradDrop's are magnitudes.
        by_span: each example's scores where only positions of a span were changed.
        groups: the clusters that examples belong to.
        seed: of the intervals.
        provenance: model, data, versions, command.

    Raises:
        CircuitError: there is not one score a node, or one is NaN or infinite.

    >>> layout = Layout((1,), (1,), (False,))
    >>> scores = NodeScores(layout, torch.arange(12.0).view(2, 6), Convention("ap", "logit_difference"))
    >>> scores.top(1)["node"].tolist(), scores["a0.h0<q>"]
    (['m0'], 4.0)
    """

    layout: Layout
    per_example: Float[Tensor, "example node"]
    convention: Convention
    by_span: Mapping[str, Float[Tensor, "example node"]] = field(default_factory=dict)
    groups: Int[Tensor, " example"] | None = None
    seed: int = 0
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(nodes_of(self.layout))
        for name, scores in {"per_example": self.per_example, **self.by_span}.items():
            if scores.shape != (len(self.per_example), n):
                raise CircuitError(f"{name} must be [example, {n} nodes]; got shape {tuple(scores.shape)}")
            if not bool(torch.isfinite(scores).all()):
                node = self.nodes[int((~torch.isfinite(scores)).nonzero()[0, 1])]
                raise CircuitError(f"{name} is NaN or infinite at {node.name}: look at the runs that it came from")

    @property
    def nodes(self) -> tuple[Node, ...]:
        """What each score is of."""
        return nodes_of(self.layout)

    @property
    def scores(self) -> Float[Tensor, " node"]:
        """The mean over examples, of magnitudes where the convention says so."""
        return self._joined(self.per_example)

    def _joined(self, per_example: Float[Tensor, "example node"]) -> Float[Tensor, " node"]:
        magnitudes = self.convention.examples == "mean-absolute"
        return (per_example.abs() if magnitudes else per_example).double().mean(0).float()

    def __getitem__(self, name: str) -> float:
        """The score of a node by its name.

        Raises:
            CircuitError: there is no such node.
        """
        for node, score in zip(self.nodes, self.scores.tolist(), strict=True):
            if node.name == name:
                return float(score)
        raise CircuitError(
            f"there is no node {name!r}: they are called as in {', '.join(n.name for n in self.nodes[:4])}"
        )

    def map(self, kind: NodeKind) -> Float[Tensor, "layer head"]:
        """The scores of one kind by layer and head, or by layer and 0; NaN where there is none.

        >>> scores = NodeScores(Layout((1,), (1,), (False,)), torch.ones(2, 6), Convention("ap", "kl"))
        >>> scores.map("q").tolist()
        [[1.0]]
        """
        if kind not in KINDS:
            raise CircuitError(f"nodes are of the kinds {', '.join(KINDS)}, not {kind!r}")
        having = [(node, score) for node, score in zip(self.nodes, self.scores, strict=True) if node.kind == kind]
        width = max(node.head for node, _ in having) + 1
        made = torch.full((self.layout.n_layers, max(1, width)), torch.nan)
        for node, score in having:
            made[max(0, node.layer), max(0, node.head)] = score
        return made

    @property
    def frame(self) -> pd.DataFrame:
        """A row a node: `node`, `kind`, `layer`, `head`, `score`, its bootstrap interval `low`, `high`, and each span.

        The interval is of the mean over examples, in whole groups where there are some; NaN with one example or group.
        """
        table = pd.DataFrame(self.nodes, columns=["node", "kind", "layer", "head"])
        table["score"] = self.scores.numpy()
        table[["low", "high"]] = float("nan")
        clusters = len(self.per_example) if self.groups is None else len(set(self.groups.tolist()))
        if clusters > 1:
            magnitudes = self.convention.examples == "mean-absolute"
            values = self.per_example.abs() if magnitudes else self.per_example
            ends = statistics.bootstrap_mean(values.T, seed=self.seed, groups=self.groups)
            table["low"], table["high"] = ends.low, ends.high
        for span, scores in self.by_span.items():
            table[span] = self._joined(scores).numpy()
        return table

    def top(self, n: int = 10, by: By = "absolute", kinds: Sequence[NodeKind] = KINDS) -> pd.DataFrame:
        """The rows of `frame` of the `n` strongest nodes, strongest first: by magnitude, or by how helpful they are.

        Raises:
            CircuitError: by a sign that is not known, as of magnitudes.
        """
        table = self.frame
        strengths = pd.Series(self.convention.strengths(self.scores, by).numpy())
        order = strengths[table["kind"].isin(kinds)].sort_values(ascending=False, kind="stable").index
        return table.loc[order[:n]].reset_index(drop=True)

    def plot(self, kinds: Sequence[NodeKind] = ("q", "k", "v", "z", "mlp")) -> Axes:
        """Draw a layer by head map of each kind, on one colour scale, and give the first one's axes.

        >>> scores = NodeScores(Layout((1,), (1,), (False,)), torch.ones(2, 6), Convention("ap", "kl", unit="nats"))
        >>> scores.plot().get_title()
        'queries'
        """
        from circuitkit import plots

        maps = [self.map(kind) for kind in kinds]
        width = max(each.shape[1] for each in maps)
        padded = [torch.nn.functional.pad(each, (0, width - each.shape[1]), value=torch.nan) for each in maps]
        magnitudes = self.convention.magnitudes
        return plots.panels(
            torch.stack(padded),
            names=[_SHOWN[kind] for kind in kinds],
            title=f"Nodes, {self.convention.method} of {self.convention.metric}",
            row_name="layer",
            column_name="head",
            unit=f"score{', magnitude' if magnitudes else ''} ({self.convention.unit or self.convention.metric})",
            centre=None if magnitudes else 0.0,
        )

    def _says(self) -> list[str]:
        n = len(self.per_example)
        return [f"{len(self.nodes)} nodes of {self.layout.n_layers} layers, {n} examples: {self.convention}."]

    def _strongest(self) -> pd.DataFrame:
        return self.top(len(self.nodes)).drop(columns=["layer", "head"])

    def save(self, path: str | Path) -> Path:
        """Write the scores to one safetensors file, whole or not at all, and give its path.

        A folder gets `node_scores.safetensors`. Raises ValueError for a file of another suffix.
        """
        spans = {f"by_span.{place}": scores for place, scores in enumerate(self.by_span.values())}
        groups = {} if self.groups is None else {"groups": self.groups}
        told = {
            "format": _FORMAT,
            "layout": asdict(self.layout),
            "convention": asdict(self.convention),
            "spans": list(self.by_span),
            "seed": self.seed,
            "provenance": dict(self.provenance),
        }
        return saving.save(path, "node_scores", {"per_example": self.per_example, **spans, **groups}, told)

    @classmethod
    def load(cls, path: str | Path) -> NodeScores:
        """Read what `save` wrote, from its file or its folder.

        Raises:
            FileNotFoundError: there is none.
            ValueError: the file is cut short, or holds something else.
            CircuitError: it is of another format number.
        """
        arrays, told = saving.load(path, "node_scores")
        if told.get("format") != _FORMAT:
            raise CircuitError(
                f"{path}: node scores of format {told.get('format')!r}, and this version reads {_FORMAT}"
            )
        return cls(
            layout=Layout(**{name: tuple(counts) for name, counts in told["layout"].items()}),
            per_example=arrays["per_example"],
            convention=Convention(**told["convention"]),
            by_span={span: arrays[f"by_span.{place}"] for place, span in enumerate(told["spans"])},
            groups=arrays.get("groups"),
            seed=told["seed"],
            provenance=told["provenance"],
        )
