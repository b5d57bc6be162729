"""How much two circuits have in common, beside what they would have by chance.

Edges of one circuit hang together: a head that matters has many. So to ask whether two circuits choose the same heads,
heads are renamed within their layer, all their edges along with them (the quadratic assignment procedure of Hubert &
Schultz 1976). Null hypotheses that permute edges instead take them for independent; those are exact: within a stratum
(all edges from one layer's heads, or MLP, or the input, to one layer's queries, keys, values or MLP, or the logits)
what two circuits share is hypergeometric, and strata are independent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import scipy
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray

from circuitkit.circuits.comparing.comparable import head_mask, there
from circuitkit.circuits.errors import CircuitError
from circuitkit.circuits.graphs import tables
from circuitkit.circuits.graphs.checking import check_same
from circuitkit.circuits.graphs.connectivity import places
from circuitkit.circuits.graphs.graph import Graph
from circuitkit.circuits.graphs.layout import Layout
from circuitkit.showing import Shown

Kept = Literal["wiring", "layers", "density"]
_KEPT = {"wiring": "heads renamed within layers", "layers": "layers kept", "density": "number alone kept"}


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


@dataclass(frozen=True, repr=False)
class Overlap(Shown):
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
        told = [
            f"{name}: {one.both:,} shared of {one.first:,} and {one.second:,}, Jaccard {one.jaccard:.2f} (chance "
            f"{one.chance:.2f}, {_KEPT[self.keep]}; p {one.p:.2g})"
            for name in ("edges", "nodes", "heads")
            for one in [getattr(self, name)]
        ]
        return "\n".join(told)


def overlap(a: Graph, b: Graph, keep: Kept = "wiring", *, draws: int = 999, seed: int = 0) -> Overlap:
    """How much two circuits share, beside what is shared by chance.

    Chance by default: the heads of one circuit are renamed at random within their layer (key/value heads, and heads of
    each), their edges along with them. So both circuits keep their layers and how their edges hang together, and what
    is tested is whether they choose the same heads. `keep="layers"` permutes each edge within its stratum, edges from
    the heads of one layer (or its MLP, or the input) into the queries of one layer (or its keys, values, MLP, or the
    logits), and heads within their layer; `keep="density"` permutes all edges and all heads, so that circuits agree
    already by lying in the same layers. These two are exact (see this module), and take edges for independent: as those
    of a head come together, their p for edges is too small, below 0.05 for up to a fifth of unrelated circuits.

    Args:
        a, b: graphs of one architecture; their members are compared, whatever their scores mean.
        keep: what the null hypothesis keeps.
        draws: how often heads are renamed.
        seed: of that.

    Raises:
        CircuitError: the architectures differ, another `keep`, or no draws.

    Source: Hubert & Schultz 1976, Br. J. Math. Stat. Psychol. 29, on renaming.

    >>> layout = ck.circuits.Layout((4, 4), (4, 4), (False, False))
    >>> convention = ck.circuits.Convention("eap", "logit_difference")
    >>> graph = ck.circuits.Graph(layout, torch.randn(layout.reach.shape) * layout.reach, layout.reach, convention)
    >>> found = overlap(graph.top(20), graph.top(20))
    >>> found.edges.jaccard, found.edges.p < 0.05
    (1.0, True)
    """
    check_same(a.layout, b.layout)
    if keep not in _KEPT:
        raise CircuitError(f"the null hypothesis keeps 'wiring', 'layers' or 'density', not {keep!r}")
    if keep == "wiring":
        if draws < 1:
            raise CircuitError(f"chance is nothing without a draw, and {draws} were asked for: give 1 or more")
        return _renamed(a, b, draws, np.random.default_rng(seed))
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


def _renamed(a: Graph, b: Graph, draws: int, rng: np.random.Generator) -> Overlap:
    """What is shared, beside what is where the heads of the second circuit have other names within their layers."""
    layout = a.layout
    members, nodes, heads = a.members.numpy(), a.touched.numpy(), np.array(places(layout)[1])[:-1] >= 0
    rows, columns = np.nonzero(b.members.numpy())
    other = np.flatnonzero(b.touched.numpy())
    counts = np.empty((1 + draws, 3), dtype=np.int64)
    for draw in range(1 + draws):
        # The first is the circuit as it is.
        to_rows, to_columns = _names(layout, rng if draw else None)
        kept = to_rows[other]
        counts[draw, 0] = members[to_rows[rows], to_columns[columns]].sum()
        counts[draw, 1], counts[draw, 2] = nodes[kept].sum(), (nodes & heads)[kept].sum()
    sizes = ((a.size, b.size), (int(nodes.sum()), len(other)), (len(a.heads), len(b.heads)))
    edges, of_nodes, of_heads = (_among(*each, counts[:, place]) for place, each in enumerate(sizes))
    return Overlap(edges, of_nodes, of_heads, "wiring")


def _names(layout: Layout, rng: np.random.Generator | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each source and each destination goes as heads are renamed within layers; nowhere else without a draw."""
    rows, columns = np.arange(len(layout.sources)), np.arange(len(layout.destinations))
    if rng is None:
        return rows, columns
    for layer, (n_heads, n_shared) in enumerate(zip(layout.n_heads, layout.n_kv_heads, strict=True)):
        shared = rng.permutation(n_shared)
        # Heads go where their key and value go, in any order.
        each = n_heads // n_shared
        within = rng.permuted(np.tile(np.arange(each), (n_shared, 1)), axis=1)
        heads = (shared[:, None] * each + within).ravel()
        rows[layout.heads_at(layer)] = layout.heads_at(layer).start + heads
        for at, order in (
            (layout.queries_at(layer), heads),
            (layout.keys_at(layer), shared),
            (layout.values_at(layer), shared),
        ):
            columns[at] = at.start + order
    return rows, columns


def _among(first: int, second: int, counts: Int[np.ndarray, " draw"]) -> Shared:
    """What is shared, the first of some counts, among the others."""
    both, total, n = int(counts[0]), first + second, len(counts)
    if not total:
        return Shared(0, 0, 0, float("nan"), float("nan"), 1.0, 1.0)
    chance = float((counts[1:] / (total - counts[1:])).mean())
    above, below = int((counts >= both).sum()), int((counts <= both).sum())
    return Shared(first, second, both, both / (total - both), chance, above / n, below / n)


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
        chances = scipy.stats.hypergeom.pmf(np.arange(least, most + 1), size, one, other)
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
