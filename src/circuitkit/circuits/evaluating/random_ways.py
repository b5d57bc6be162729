"""Random ways through a decoder's graph, from the input to the logits."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from circuitkit.circuits.graphs.layout import Layout

Way = list[tuple[int, int]]
"""Edges one after another, each by row and column."""


def random_way(layout: Layout, rng: np.random.Generator) -> Way:
    """A way from the input to the logits: at each node, any of the edges that lead on with the same chance.

    >>> layout = Layout((2, 2), (2, 2), (False, False))
    >>> way = random_way(layout, np.random.default_rng(0))
    >>> layout.sources[way[0][0]], layout.destinations[way[-1][1]]
    ('input', 'logits')
    """
    way: Way = []
    row = 0
    while True:
        column = int(rng.choice(layout.reach[row].nonzero().flatten().numpy()))
        way.append((row, column))
        if column == layout.logits_at:
            return way
        # A key or value that heads share leads on by any of them.
        row = int(rng.choice(layout.reads[:, column].nonzero().flatten().numpy()))


def random_way_beside(
    layout: Layout, members: Bool[Tensor, "sources destinations"], rng: np.random.Generator, tries: int = 1000
) -> Way | None:
    """A random way with at least one edge that is no member; None where none was met with.

    >>> layout = Layout((1,), (1,), (False,))
    >>> random_way_beside(layout, layout.reach, np.random.default_rng(0)) is None
    True
    """
    if torch.equal(members, layout.reach):
        return None
    for _ in range(tries):
        way = random_way(layout, rng)
        if not all(bool(members[edge]) for edge in way):
            return way
    return None
