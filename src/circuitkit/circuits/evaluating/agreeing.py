"""Whether seeds, metrics or methods give the same circuit: the overlap of every two of some graphs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from circuitkit.circuits.errors import CircuitError
from circuitkit.circuits.evaluating.choosing import Choice, Select
from circuitkit.circuits.evaluating.overlaps import chance_jaccard, mean_of_pairs, pairwise_jaccard
from circuitkit.circuits.graphs.checking import check_same
from circuitkit.circuits.graphs.convention import By
from circuitkit.circuits.graphs.graph import Graph
from circuitkit.showing import Shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False, repr=False)
class Agreement(Shown):
    """The Jaccard index of every two circuits, of their edges, nodes and heads.

    Attributes:
        names: of the circuits.
        edges, nodes, heads: the index of every two; NaN where both have none.
        sizes: how many edges each has.
        n_edges: how many there are in all.
    """

    names: tuple[str, ...]
    edges: Float[Tensor, "circuit circuit"]
    nodes: Float[Tensor, "circuit circuit"]
    heads: Float[Tensor, "circuit circuit"]
    sizes: tuple[int, ...]
    n_edges: int

    @property
    def value(self) -> float:
        """The mean index of the edges of every two circuits."""
        return mean_of_pairs(np.nan_to_num(self.edges.numpy()))[0]

    @property
    def chance(self) -> float:
        """The expected index of two random circuits of the mean size."""
        return chance_jaccard(round(float(np.mean(self.sizes))), self.n_edges)

    @property
    def frame(self) -> pd.DataFrame:
        """A row for every two circuits: `a`, `b`, and the index of their `edges`, `nodes` and `heads`."""
        first, second = np.triu_indices(len(self.names), 1)
        names = np.array(self.names, dtype=object)
        table = {what: getattr(self, what).numpy()[first, second] for what in ("edges", "nodes", "heads")}
        return pd.DataFrame({"a": names[first], "b": names[second], **table})

    def _says(self) -> list[str]:
        sizes = f"{min(self.sizes)} to {max(self.sizes)}" if len(set(self.sizes)) > 1 else f"{self.sizes[0]}"
        return [
            f"{len(self.names)} circuits of {sizes} of {self.n_edges:,} edges: every two share {self.value:.2f} of "
            f"their edges on average (Jaccard index; random circuits {self.chance:.2f})."
        ]

    def plot(self, *, axes: Axes | None = None) -> Axes:
        """Draw the index of the edges of every two circuits."""
        from circuitkit import plots

        return plots.heatmap(
            self.edges,
            title=f"Overlap of circuits (mean {self.value:.2f}, chance {self.chance:.2f})",
            row_name="circuit",
            column_name="circuit",
            row_labels=self.names,
            column_labels=self.names,
            unit="Jaccard index of edges",
            centre=None,
            axes=axes,
        )


def agreement(
    graphs: Mapping[str, Graph],
    n: int | None = None,
    by: By = "absolute",
    *,
    threshold: float | None = None,
    select: Select = "top",
    prune: bool = True,
) -> Agreement:
    """How far several graphs of one model agree: of other seeds, metrics, methods or prompts.

    Args:
        graphs: by name.
        n, threshold, by, select, prune: the rule that cuts a circuit out of each; without `n` and `threshold` their
            own circuits are compared.

    Raises:
        CircuitError: there are fewer than two, or they are of different architectures.

    >>> layout = ck.circuits.Layout((2,), (2,), (False,))
    >>> convention = ck.circuits.Convention("eap", "logit_difference")
    >>> graph = ck.circuits.Graph(layout, layout.reach.float(), layout.reach, convention)
    >>> round(agreement({"one": graph, "part": graph.top(8)}).value, 3)
    0.615
    """
    if len(graphs) < 2:
        raise CircuitError(f"agreement compares graphs, and needs two at least: got {len(graphs)}")
    layout = next(iter(graphs.values())).layout
    for name, graph in graphs.items():
        check_same(layout, graph.layout, name)
    if n is not None or threshold is not None:
        choice = Choice(n, threshold, by, select, prune)
        graphs = {name: choice.of(graph) for name, graph in graphs.items()}
    members = np.stack([graph.members.numpy()[layout.reach.numpy()] for graph in graphs.values()])
    touched = torch.stack([graph.touched for graph in graphs.values()])
    heads = torch.cat([touched[:, layout.heads_at(layer)] for layer in range(layout.n_layers)], dim=1)
    edges, nodes, of_heads = (
        torch.from_numpy(pairwise_jaccard(rows)) for rows in (members, touched.numpy(), heads.numpy())
    )
    sizes = tuple(graph.size for graph in graphs.values())
    return Agreement(tuple(graphs), edges, nodes, of_heads, sizes, layout.n_edges)
