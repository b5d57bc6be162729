"""Where the nodes of a decoder stand in a layered picture, and the ways that its edges take between them.

Layers are rows, the input below the first and the logits above the last; heads stand side by side, a layer's MLP at
their right and, where it reads what they write, a little higher. An edge enters a head's query, key or value from the
left, the middle or the right below it, and a key or value that heads share below the middle of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

if TYPE_CHECKING:
    from circuitkit.circuits.graphs.layout import Layout

_STEPS = 24
"""Straight pieces that a curve is drawn by."""
_PORT = 0.2
"""How far a query's and a value's entrance lie from a head's middle, in heads."""
_BELOW, _SHARED_BELOW = 0.2, 0.32
"""How far entrances lie below a head, and below heads that share them, in layers."""
_RISE = 0.4
"""How much higher than its layer's heads an MLP stands, in layers."""
_UPRIGHT = 0.3
"""What leads this little to the side, in heads, would pass behind the names of nodes between its ends."""
_BOW, _WIDEST = 0.45, 0.8
"""How far to the side the way of such an edge is drawn to go round the next layer, and round all, in heads."""

Points = Float[np.ndarray, "node 2"]


@dataclass(frozen=True)
class Places:
    """Where nodes and their entrances stand, in heads to the right and layers upwards.

    >>> from circuitkit.circuits import Layout
    >>> Places(Layout((2, 2), (2, 2), (False, False))).nodes[[0, 1, 3, -1]].tolist()
    [[0.5, -1.0], [0.0, 0.0], [2.5, 0.4], [0.5, 2.0]]
    """

    layout: Layout

    @property
    def mlps(self) -> float:
        """The place of the MLPs to the right."""
        return max(self.layout.n_heads) + 0.5

    @cached_property
    def nodes(self) -> Points:
        """Of each node, in the order of the layout's."""
        middle = (max(self.layout.n_heads) - 1) / 2
        points: list[tuple[float, float]] = [(middle, -1.0)]
        for layer, heads in enumerate(self.layout.n_heads):
            points += [(head, layer) for head in range(heads)]
            points.append((self.mlps, layer + (0.0 if self.layout.parallel[layer] else _RISE)))
        return np.array([*points, (middle, self.layout.n_layers)], dtype=np.float64)

    @cached_property
    def entrances(self) -> Points:
        """Of each destination, in the order of the layout's."""
        points = np.zeros((len(self.layout.destinations), 2))
        for layer, (heads, shared) in enumerate(zip(self.layout.n_heads, self.layout.n_kv_heads, strict=True)):
            own = np.arange(heads, dtype=np.float64)
            groups = own.reshape(shared, -1).mean(1)
            points[self.layout.attention_at(layer), 1] = layer - (_BELOW if heads == shared else _SHARED_BELOW)
            points[self.layout.queries_at(layer)] = np.stack([own - _PORT, np.full(heads, layer - _BELOW)], axis=1)
            points[self.layout.keys_at(layer), 0] = groups if heads == shared else groups - _PORT / 2
            points[self.layout.values_at(layer), 0] = groups + (_PORT if heads == shared else _PORT / 2)
            points[self.layout.mlp_input_at(layer)] = self.nodes[self.layout.mlp_at(layer)]
        points[self.layout.logits_at] = self.nodes[-1]
        return points

    def shared_by(self, columns: NDArray[np.int64]) -> Float[np.ndarray, "group 2 2"]:
        """A line under the heads of each group that shares a key or value among the columns."""
        lines = []
        for layer, (heads, shared) in enumerate(zip(self.layout.n_heads, self.layout.n_kv_heads, strict=True)):
            if heads == shared:
                continue
            size, keys, values = heads // shared, self.layout.keys_at(layer), self.layout.values_at(layer)
            for group in range(shared):
                if {keys.start + group, values.start + group} & set(columns.tolist()):
                    first = group * size
                    height = layer - _SHARED_BELOW
                    lines.append([(first - 0.3, height), (first + size - 0.7, height)])
        return np.array(lines, dtype=np.float64).reshape(-1, 2, 2)

    def into_heads(self, columns: NDArray[np.int64]) -> Float[np.ndarray, "entrance 2 2"]:
        """A line from each entrance among the columns that is one head's own to that head."""
        lines = []
        for layer, (heads, shared) in enumerate(zip(self.layout.n_heads, self.layout.n_kv_heads, strict=True)):
            inputs = [self.layout.queries_at(layer)]
            if heads == shared:
                inputs += [self.layout.keys_at(layer), self.layout.values_at(layer)]
            for places in inputs:
                own = columns[(columns >= places.start) & (columns < places.stop)]
                lines += [(self.entrances[column], (column - places.start, layer)) for column in own]
        return np.array(lines, dtype=np.float64).reshape(-1, 2, 2)

    def curves(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Float[np.ndarray, "edge step 2"]:
        """The way of each edge: it leaves upwards and arrives upwards, and goes round the nodes that it skips."""
        start, end = self.nodes[rows], self.entrances[columns]
        rise = np.maximum(end[:, 1] - start[:, 1], 0.35)
        lift = np.stack([np.zeros_like(rise), 0.45 * rise], axis=1)
        # An edge between neighbours has nothing to go round; else it would look like two edges through a third node.
        skipping = (np.abs(end[:, 0] - start[:, 0]) < _UPRIGHT) & (rise > 1.05)
        bow = np.where(skipping, np.minimum(_BOW + 0.05 * (rise - 2), _WIDEST), 0.0)
        aside = np.stack([bow, np.zeros_like(bow)], axis=1)
        points = [start, start + lift + aside, end - lift + aside, end]
        along = np.linspace(0.0, 1.0, _STEPS)[:, None, None]
        weights = [(1 - along) ** 3, 3 * along * (1 - along) ** 2, 3 * along**2 * (1 - along), along**3]
        curve: Float[np.ndarray, "step edge 2"] = sum(
            (weight * point for weight, point in zip(weights, points, strict=True)), np.zeros(())
        )
        return curve.swapaxes(0, 1)
