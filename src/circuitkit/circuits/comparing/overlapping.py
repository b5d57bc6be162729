"""How much two circuits have in common, beside what circuits of the same layers and density would have by chance.

Within a stratum (all edges from one layer's heads, or MLP, or the input, to one layer's queries, keys, values or MLP,
or the logits) the null hypothesis says that which edges a circuit has is a draw without replacement. So what two
circuits share there is hypergeometric, strata are independent, and the whole distribution is exact: nothing is sampled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from scipy import stats

from circuitkit.circuits.comparing.comparable import head_mask, there
from circuitkit.circuits.errors import CircuitError
from circuitkit.circuits.graphs import tables
from circuitkit.circuits.graphs.checking import check_same
from circuitkit.circuits.graphs.connectivity import places
from circuitkit.circuits.graphs.graph import Graph
from circuitkit.circuits.graphs.layout import Layout

Kept = Literal["layers", "density"]


class Shared(NamedTuple):
    """What two circuits share of one kind of part.

    Attributes:
        first, second, both: how many parts either has, and both.
        jaccard: both beside either; NaN where there are none.
        chance: the expected index under the null hypothesis.
        p: the chance of sharing at least as many.
        p_apart: the chance of sharing at most as many.
    """

    first: int
    second: int
    both: int
    jaccard: float
    chance: float
    p: float
    p_apart: float


@dataclass(frozen=True)
class Overlap:
    """What two circuits share of edges, nodes and heads, each beside chance.

    Attributes:
        edges, nodes, heads: what is shared.
        keep: what the null hypothesis keeps.
    """

    edges: Shared
    nodes: Shared
    heads: Shared
    keep: Kept

    @property
    def frame(self) -> pd.DataFrame:
        """A row each for edges, nodes and heads."""
        rows = [{"of": name, **getattr(self, name)._asdict()} for name in ("edges", "nodes", "heads")]
        return pd.DataFrame(rows)

    def __str__(self) -> str:
        kept = "layers kept" if self.keep == "layers" else "number alone kept"
        told = [
            f"{name}: {one.both:,} shared of {one.first:,} and {one.second:,}, Jaccard {one.jaccard:.2f} (chance "
            f"{one.chance:.2f}, {kept}; p {one.p:.2g})"
            for name in ("edges", "nodes", "heads")
            for one in [getattr(self, name)]
        ]
        return "\n".join(told)


def overlap(a: Graph, b: Graph, keep: Kept = "layers") -> Overlap:
    """How much two circuits share, beside what is shared by chance.

    Chance: each edge's label is permuted within its stratum, edges from the heads of one layer (or its MLP, or the
    input) into the queries of one layer (or its keys, values, MLP, or the logits); heads within their layer. So both
    circuits keep their density and their layers, and what is tested is whether they choose the same heads there; an
    edge that is alone in its stratum, such as one between two MLPs, is no evidence. `keep="density"` permutes all edges
    and all heads, so that circuits agree already by lying in the same layers. Both are exact: see this module.

    Args:
        a, b: graphs of one architecture; their members are compared, whatever their scores mean.
        keep: what the null hypothesis keeps.

    Raises:
        CircuitError: the architectures differ, or another `keep`.

    >>> layout = ck.circuits.Layout((4, 4), (4, 4), (False, False))
    >>> convention = ck.circuits.Convention("eap", "logit_difference")
    >>> graph = ck.circuits.Graph(layout, torch.randn(layout.reach.shape) * layout.reach, layout.reach, convention)
    >>> found = overlap(graph.top(20), graph.top(20))
    >>> found.edges.jaccard, found.edges.p < 0.01
    (1.0, True)
    """
    check_same(a.layout, b.layout)
    if keep not in ("layers", "density"):
        raise CircuitError(f"the null hypothesis keeps 'layers' or 'density', not {keep!r}")
    layout = a.layout
    reach = layout.reach.numpy()
    one, other = a.members.numpy()[reach], b.members.numpy()[reach]
    strata = _edge_strata(layout)[reach] if keep == "layers" else np.zeros(len(one), dtype=np.int64)
    edges = shared(one, other, strata)
    mask = there(layout)
    layers = mask.nonzero()[:, 0].numpy()
    in_each = [head_mask(graph)[mask].numpy() for graph in (a, b)]
    heads = shared(in_each[0], in_each[1], layers if keep == "layers" else layers * 0)
    return Overlap(edges, _nodes(a, b, keep), heads, keep)


def _nodes(a: Graph, b: Graph, keep: Kept) -> Shared:
    """Input, heads and MLPs; the logits, of which there is one, are in every circuit."""
    one, other = (graph.touched.numpy() for graph in (a, b))
    layers, heads = (np.array(each)[:-1] for each in places(a.layout))
    strata = 2 * (layers + 1) + (heads >= 0) if keep == "layers" else layers * 0
    return shared(one, other, strata)


def shared(
    one: Bool[np.ndarray, " part"], other: Bool[np.ndarray, " part"], strata: Int[np.ndarray, " part"]
) -> Shared:
    """What two sets share, where each is a draw within strata: a sum of independent hypergeometric numbers.

    >>> shared(np.array([True, False]), np.array([True, False]), np.array([0, 0]))._asdict()["p"]
    0.5
    """
    numbers = np.unique(strata, return_inverse=True)[1]
    sizes = np.bincount(numbers)
    first, second = (np.bincount(numbers[each], minlength=len(sizes)) for each in (one, other))
    total, both = int(first.sum() + second.sum()), int((one & other).sum())
    least = int(np.maximum(0, first + second - sizes).sum())
    chances = _sum_of(sizes, first, second)
    counts = least + np.arange(len(chances))
    nan = float("nan")
    if not total:
        return Shared(0, 0, 0, nan, nan, 1.0, 1.0)
    at_least, at_most = chances[counts >= both].sum(), chances[counts <= both].sum()
    return Shared(
        int(first.sum()),
        int(second.sum()),
        both,
        both / (total - both),
        float((chances * counts / (total - counts)).sum()),
        float(min(1.0, at_least)),
        float(min(1.0, at_most)),
    )


def _sum_of(
    sizes: NDArray[np.int64], first: NDArray[np.int64], second: NDArray[np.int64]
) -> Float[np.ndarray, " count"]:
    """The distribution of what is shared over all strata, from the least possible count on."""
    whole = np.ones(1)
    kinds, often = np.unique(np.stack([sizes, first, second]), axis=1, return_counts=True)
    for (size, one, other), repeats in zip(kinds.T, often, strict=True):
        least, most = max(0, one + other - size), min(one, other)
        if most == least:
            continue
        chances = stats.hypergeom.pmf(np.arange(least, most + 1), size, one, other)
        for _ in range(int(repeats)):
            # Directly, not by Fourier transform: rare counts, which p-values are made of, keep their precision.
            whole = np.convolve(whole, chances)
    return whole


def _edge_strata(layout: Layout) -> Int[np.ndarray, "sources destinations"]:
    """A number for each edge's stratum."""
    layers, heads = (np.array(each)[:-1] for each in places(layout))
    rows = 2 * (layers + 1) + (heads >= 0)
    kinds, read_layers, _ = tables.inputs(layout)
    number = {kind: place for place, kind in enumerate(("q", "k", "v", "mlp", "logits"))}
    columns = len(number) * read_layers + np.array([number[kind] for kind in kinds])
    return np.asarray(rows[:, None] * (columns.max() + 1) + columns[None, :])
