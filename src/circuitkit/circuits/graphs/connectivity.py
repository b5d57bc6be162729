"""How much a circuit joins: the degrees of its nodes, and the ways from the input to the logits through each.

"Thinking Sparks!" (arXiv 2509.25758) holds that circuits under GRPO have fewer but more complex heads.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from circuitkit.circuits.graphs.layout import Layout
from circuitkit.circuits.graphs.selection import Members, touched


def complexity(layout: Layout, members: Members) -> pd.DataFrame:
    """A row a node, in the order of the graph: its degrees and the ways through it.

    Columns: `node`, `layer` (−1 of the input, the number of layers of the logits), `head` (−1 where there is none),
    `in_degree` (member edges into its inputs; those into a key or value that heads share count for each of them that is
    in the circuit),
    `out_degree` (member edges out of it) and `paths`, the number of ways from the input to the logits along members
    that lead through it. A way enters a head by its query, its key or its value, and those count apart. Ways are exact
    integers, however many: the column holds Python's.

    >>> layout = Layout((1,), (1,), (False,))
    >>> complexity(layout, layout.reach.numpy())[["node", "in_degree", "out_degree", "paths"]].values.tolist()
    [['input', 0, 5, 8], ['a0.h0', 3, 2, 6], ['m0', 2, 1, 4], ['logits', 3, 0, 8]]
    """
    reads = layout.reads.numpy()
    into = members.sum(0)
    inward = (reads @ into) * touched(layout, members)
    from_input, to_logits = ways_from_input(layout, members), ways_to_logits(layout, members)
    whole = int(from_input[members[:, layout.logits_at]].sum())
    layers, heads = places(layout)
    return pd.DataFrame(
        {
            "node": layout.nodes,
            "layer": layers,
            "head": heads,
            "in_degree": [*inward.tolist(), int(into[layout.logits_at])],
            "out_degree": [*members.sum(1).tolist(), 0],
            "paths": pd.Series([*(from_input * to_logits), whole], dtype=object),
        }
    )


def ways_from_input(layout: Layout, members: Members) -> NDArray[np.object_]:
    """In how many ways members lead from the input to each source, as exact integers; 1 to the input itself."""
    ways = np.zeros(len(layout.sources), dtype=object)
    ways[0] = 1
    reads = layout.reads.numpy()
    for layer in range(layout.n_layers):
        rows, heads, columns = layout.before_attention(layer), layout.heads_at(layer), layout.attention_at(layer)
        arriving = _summed(members[rows, columns].T, ways[rows])
        ways[heads] = _summed(reads[heads, columns], arriving)
        rows, mlp = layout.before_mlp(layer), layout.mlp_at(layer)
        ways[mlp] = _summed(members[rows, layout.mlp_input_at(layer)][None], ways[rows])[0]
    return ways


def ways_to_logits(layout: Layout, members: Members) -> NDArray[np.object_]:
    """In how many ways members lead from each source to the logits, as exact integers."""
    ways = np.zeros(len(layout.sources), dtype=object)
    onward = np.zeros(len(layout.destinations), dtype=object)
    onward[layout.logits_at] = 1
    reads = layout.reads.numpy()
    for layer in reversed(range(layout.n_layers)):
        mlp, at = layout.mlp_at(layer), layout.mlp_input_at(layer)
        onward[at] = ways[mlp] = _summed(members[mlp : mlp + 1, at + 1 :], onward[at + 1 :])[0]
        heads, columns = layout.heads_at(layer), layout.attention_at(layer)
        ways[heads] = _summed(members[heads, columns.stop :], onward[columns.stop :])
        onward[columns] = _summed(reads[heads, columns].T, ways[heads])
    ways[0] = _summed(members[:1], onward)[0]
    return ways


def places(layout: Layout) -> tuple[list[int], list[int]]:
    """The layer and head of each node: −1 of the input and of what is no head, the number of layers of the logits."""
    layers, heads = [-1], [-1]
    for layer, count in enumerate(layout.n_heads):
        layers += [layer] * (count + 1)
        heads += [*range(count), -1]
    return [*layers, layout.n_layers], [*heads, -1]


def _summed(picked: Members, counts: NDArray[np.object_]) -> NDArray[np.object_]:
    """For each row, the sum of the counts that it picks."""
    # Limbs of 32 bits keep the sums in integer matrix products, where Python's integers would be added one by one.
    limbs, left = [], counts
    while left.any():
        limbs.append((left & 0xFFFFFFFF).astype(np.int64))
        left = left >> 32
    total = np.zeros(len(picked), dtype=object)
    for place, limb in enumerate(limbs):
        total += (picked @ limb).astype(object) << (32 * place)
    return total
