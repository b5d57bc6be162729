"""How circuits are cut out of scores, the same way for the circuit itself, its resamples and its random controls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float

from circuitkit.circuits.errors import CircuitError
from circuitkit.circuits.graphs import selection
from circuitkit.circuits.graphs.convention import By
from circuitkit.circuits.graphs.graph import Graph
from circuitkit.circuits.graphs.layout import Layout

Select = Literal["top", "greedy"]


@dataclass(frozen=True)
class Choice:
    """A rule by which edges become a circuit.

    Attributes:
        n: so many of the strongest edges; None where a threshold says which.
        threshold: all edges of at least this strength, in the metric's unit.
        by: strength is the score's magnitude, or how helpful an edge is.
        select: the strongest wherever they are, or grown backwards from the logits.
        prune: drop edges that lie on no way from the input to the logits.

    Raises:
        CircuitError: neither or both of `n` and `threshold`, or a way to select that there is not.

    >>> str(Choice(40))
    '40 strongest edges by magnitude, pruned'
    """

    n: int | None = None
    threshold: float | None = None
    by: By = "absolute"
    select: Select = "top"
    prune: bool = True

    def __post_init__(self) -> None:
        if (self.n is None) == (self.threshold is None):
            raise CircuitError(
                "a circuit is a number of edges or all over a threshold: give n or threshold, one of them"
            )
        if self.n is not None and (isinstance(self.n, bool) or self.n != int(self.n) or self.n < 0):
            raise CircuitError(f"a circuit has a whole number of edges from 0 up, not {self.n!r}")
        if self.threshold is not None and np.isnan(self.threshold):
            raise CircuitError("the threshold is NaN, and no edge is as strong as that: give a number")
        if self.select not in ("top", "greedy"):
            raise CircuitError(f"edges are selected by 'top' or 'greedy', not {self.select!r}")
        if self.select == "greedy" and self.n is None:
            raise CircuitError("what is grown greedily has a number of edges: give n, not a threshold")

    def members(
        self, layout: Layout, strengths: Float[np.ndarray, "sources destinations"]
    ) -> Bool[np.ndarray, "sources destinations"]:
        """The circuit's edges, from all edges' strengths."""
        reach: Bool[np.ndarray, "sources destinations"] = layout.reach.numpy()
        if self.n is None:
            chosen = reach & (strengths >= self.threshold)
        elif self.select == "greedy":
            chosen = selection.grown(layout, strengths, reach, self.n)
        else:
            chosen = selection.strongest(strengths, reach, self.n)
        return selection.on_a_way(layout, chosen) if self.prune else chosen

    def of(self, graph: Graph) -> Graph:
        """The circuit that a graph's scores give, of all its edges.

        Raises:
            CircuitError: by a sign that is not known.
        """
        strengths = graph.convention.strengths(graph.scores, self.by).numpy()
        return graph.with_members(torch.from_numpy(self.members(graph.layout, strengths)))

    def within(self, graph: Graph) -> Graph:
        """The circuit that is cut out of a graph's members alone, where the others have no scores.

        Raises:
            CircuitError: by a sign that is not known.
        """
        if self.n is None:
            assert self.threshold is not None  # one of them is given
            found = graph.threshold(self.threshold, self.by)
        else:
            found = graph.greedy(self.n, self.by) if self.select == "greedy" else graph.top(self.n, self.by)
        return found.prune() if self.prune else found

    def __str__(self) -> str:
        by = "magnitude" if self.by == "absolute" else "helpfulness"
        pruned = ", pruned" if self.prune else ""
        if self.n is None:
            return f"edges of at least {self.threshold:g} by {by}{pruned}"
        grown = " grown from the logits" if self.select == "greedy" else ""
        return f"{self.n:,} strongest edge{'s' * (self.n != 1)} by {by}{grown}{pruned}"
