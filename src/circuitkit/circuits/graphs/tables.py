"""Graphs as tables: a row an edge, and the strength of each head."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy.typing import NDArray

from circuitkit.circuits.graphs.connectivity import places
from circuitkit.circuits.graphs.layout import Layout
from circuitkit.circuits.graphs.selection import Members, Strengths

NO_LAYER = NO_HEAD = -1


def edges(layout: Layout, scores: Strengths, members: Members, chosen: Members) -> pd.DataFrame:
    """A row each of the chosen edges, in the order of the arrays.

    Columns: `source`, `destination`, `kind` (by which input it is read: q, k, v, mlp or logits), `score`, `in_circuit`,
    and the layers and heads of both ends: `source_layer` (−1 of the input), `source_head` (−1 of what is no head),
    `destination_layer` (the number of layers, of the logits), `destination_head` (−1 of what is no head; of a key or
    value input, the key/value head).
    """
    rows, columns = np.nonzero(chosen)
    layers, heads = places(layout)
    kinds, read_layers, read_heads = inputs(layout)
    return pd.DataFrame(
        {
            "source": np.array(layout.sources, dtype=object)[rows],
            "destination": np.array(layout.destinations, dtype=object)[columns],
            "kind": kinds[columns],
            "score": scores[rows, columns],
            "in_circuit": members[rows, columns],
            "source_layer": np.array(layers)[rows],
            "source_head": np.array(heads)[rows],
            "destination_layer": read_layers[columns],
            "destination_head": read_heads[columns],
        }
    )


def inputs(layout: Layout) -> tuple[NDArray[np.object_], NDArray[np.int64], NDArray[np.int64]]:
    """The kind, layer and head of each destination."""
    kinds: list[str] = []
    layers: list[int] = []
    heads: list[int] = []
    for layer, (queries, shared) in enumerate(zip(layout.n_heads, layout.n_kv_heads, strict=True)):
        kinds += ["q"] * queries + ["k"] * shared + ["v"] * shared + ["mlp"]
        heads += [*range(queries), *range(shared), *range(shared), NO_HEAD]
        layers += [layer] * (queries + 2 * shared + 1)
    return np.array([*kinds, "logits"], dtype=object), np.array([*layers, layout.n_layers]), np.array([*heads, NO_HEAD])


def head_importance(layout: Layout, scores: Strengths, counted: Members) -> Float[np.ndarray, "layer head"]:
    """The sum of the magnitudes of the counted edges out of each head; NaN where a layer has no such head."""
    out = np.where(counted, np.abs(scores), 0.0).sum(1, dtype=np.float64)
    table = np.full((layout.n_layers, max(layout.n_heads)), np.nan)
    for layer, count in enumerate(layout.n_heads):
        table[layer, :count] = out[layout.heads_at(layer)]
    return table
