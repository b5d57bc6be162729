"""Whether the same circuit comes out once more: circuits of examples drawn anew, and what they have in common."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from circuitkit.circuits.errors import CircuitError
from circuitkit.circuits.evaluating.choosing import Choice, Select
from circuitkit.circuits.evaluating.overlaps import jaccard_between, pairwise_jaccard, upper
from circuitkit.circuits.evaluating.resampling import clusters_of
from circuitkit.circuits.evaluating.steadiness import Stability
from circuitkit.circuits.graphs.convention import By
from circuitkit.circuits.graphs.graph import Graph
from circuitkit.circuits.graphs.selection import Members, touched
from circuitkit.records import provenance

_AT_ONCE = 16_000_000
"""How many scores of resamples are held at a time (64 MB)."""
_FLIPS, _RESAMPLES_OF_A_FLIP = 99, 2

Scores = Float[np.ndarray, " edge"]


def stability(
    graph: Graph,
    n: int | None = None,
    by: By = "absolute",
    *,
    threshold: float | None = None,
    select: Select = "top",
    prune: bool = True,
    resamples: int = 100,
    seed: int = 0,
    progress: bool = True,
) -> Stability:
    """How far a circuit hangs on the examples that it was found on: circuits of examples drawn anew, compared.

    Examples are drawn with replacement, whole groups where pairs have groups, and from each resample's scores a circuit
    is cut by the same rule. The figure is the mean Jaccard index of every two of these circuits. Beside it stand the
    same where an edge has to have the same sign too, the index of random circuits of that size, and that of resamples
    whose scores had their signs flipped at random, group by group, so that no edge has a consistent effect; and a test
    of whether effects are consistent at all.

    Args:
        graph: with each example's scores.
        n, threshold, by, select, prune: the rule, as of `Graph.top`, `threshold`, `greedy` and `prune`.
        resamples: how many.
        seed: of the draws.
        progress: show a bar.

    Raises:
        CircuitError: the graph has no scores of single examples, or scores that these do not make; there are fewer than
            two examples or groups; no rule is given, or two.

    Source: Méloux et al. 2025 (arXiv 2510.00845): pairwise Jaccard of bootstrap resamples, of which they ask for 0.8.

    >>> layout = ck.circuits.Layout((2,), (2,), (False,))
    >>> each = torch.randn(6, *layout.reach.shape, generator=torch.manual_seed(0)) * layout.reach
    >>> convention = ck.circuits.Convention("eap", "logit_difference")
    >>> graph = ck.circuits.Graph(layout, each.mean(0), layout.reach, convention, per_example=each)
    >>> stability(graph, 6, resamples=10, progress=False).verdict
    'poor'
    """
    choice = Choice(n, threshold, by, select, prune)
    if resamples < 2:
        raise CircuitError(f"{resamples} resamples have nothing to compare: give 2 or more, such as 100")
    sums = ClusterSums.of(graph)
    cut = Cutter(graph, choice)
    rng = np.random.default_rng(seed)
    flips = 0 if graph.convention.magnitudes else _FLIPS
    with tqdm(total=resamples + flips * _RESAMPLES_OF_A_FLIP, desc="stability", disable=not progress, delay=1.0) as bar:
        found = cut.circuits(sums.drawn(resamples, rng), bar)
        noise = [_noise(cut, sums, rng, bar) for _ in range(flips)]
    circuit, scores = choice.of(graph), graph.scores.numpy()[cut.reach]
    own = cut.circuits(iter([scores]), None)
    return Stability(
        choice=choice,
        circuit=circuit,
        frequency=torch.from_numpy(cut.spread(found.edges.mean(0))),
        node_frequency=torch.from_numpy(found.nodes.mean(0)),
        edges=_jaccard(found.edges),
        signed=_jaccard(found.signed),
        nodes=_jaccard(found.nodes),
        heads=_jaccard(found.nodes[:, _heads(graph)]),
        to_circuit=torch.from_numpy(np.nan_to_num(jaccard_between(found.edges, own.edges)[:, 0])),
        noise=torch.tensor(noise, dtype=torch.float64).reshape(flips, 3),
        strength=cut.strength(scores),
        n_clusters=len(sums.sizes),
        provenance=_provenance(graph, choice, resamples, seed),
    )


@dataclass(frozen=True, eq=False)
class ClusterSums:
    """Each cluster's sum of scores, edge by edge, and how many examples it has."""

    scores: Float[np.ndarray, "cluster edge"]
    sizes: Float[np.ndarray, " cluster"]

    @classmethod
    def of(cls, graph: Graph) -> ClusterSums:
        """The sums of a graph's clusters.

        Raises:
            CircuitError: it has no scores of single examples, others than its scores are made of, or one cluster alone.
        """
        if graph.per_example is None:
            raise CircuitError(
                "stability needs each example's scores, and this graph has not kept them: attribute with "
                "keep_examples=True"
            )
        each = graph.per_example.numpy()[:, graph.layout.reach.numpy()]
        if graph.convention.examples == "mean-absolute":
            each = np.abs(each)
        clusters = clusters_of(len(each), None if graph.groups is None else graph.groups.tolist())
        _check_made_of(graph, each)
        sizes = np.bincount(clusters).astype(each.dtype)
        if len(sizes) < 2:
            what = "example" if graph.groups is None else "group"
            raise CircuitError(f"stability draws {what}s anew, and needs two at least: got {len(sizes)}")
        if len(sizes) == len(each):
            return cls(each, sizes)
        order = np.argsort(clusters, kind="stable")
        starts = np.concatenate([[0], np.cumsum(sizes[:-1])]).astype(np.int64)
        return cls(np.add.reduceat(each[order], starts, axis=0), sizes)

    def drawn(self, n: int, rng: np.random.Generator, signs: NDArray[np.floating] | None = None) -> Iterator[Scores]:
        """The mean scores of so many resamples, one after the other; `signs` flips those of some clusters."""
        clusters = len(self.sizes)
        weights = rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=n).astype(self.scores.dtype)
        counts = weights @ self.sizes
        signed = weights if signs is None else weights * signs
        step = max(1, _AT_ONCE // self.scores.shape[1])
        for start in range(0, n, step):
            some = slice(start, start + step)
            yield from (signed[some] @ self.scores) / counts[some, None]


def _check_made_of(graph: Graph, each: Float[np.ndarray, "example edge"]) -> None:
    """Refuse scores that their examples do not make, since the circuit would not be that of a resample."""
    scores = graph.scores.numpy()[graph.layout.reach.numpy()]
    apart = np.abs(each.mean(0, dtype=np.float64) - scores)
    if bool((apart > 1e-4 * np.abs(each).mean(0, dtype=np.float64) + 1e-4 * np.abs(scores).max()).any()):
        raise CircuitError(
            f"the graph's scores are not the {graph.convention.examples} of its examples' (they differ by up to "
            f"{apart.max():.3g}), so resamples would make other circuits: attribute anew with keep_examples=True"
        )


@dataclass(frozen=True, eq=False)
class Circuits:
    """Circuits as rows: their edges, these with their signs (twice as many), and their nodes but the logits."""

    edges: Bool[np.ndarray, "circuit edge"]
    signed: Bool[np.ndarray, "circuit signed_edge"]
    nodes: Bool[np.ndarray, "circuit source"]


class Cutter:
    """A rule that cuts circuits out of a graph's layout, given the scores of its edges one after the other."""

    def __init__(self, graph: Graph, choice: Choice) -> None:
        self.graph, self.choice = graph, choice
        self.reach: Members = graph.layout.reach.numpy()

    def circuits(self, scores: Iterator[Scores], bar: Any) -> Circuits:
        """The circuits of some scores."""
        layout, convention = self.graph.layout, self.graph.convention
        edges, positive, nodes = [], [], []
        for one in scores:
            strengths = convention.strengths(torch.from_numpy(one), self.choice.by).numpy()
            members = self.choice.members(layout, self.spread(strengths))
            edges.append(members[self.reach])
            positive.append(edges[-1] & (one > 0))
            nodes.append(touched(layout, members))
            if bar is not None:
                bar.update()
        rows, above = np.stack(edges), np.stack(positive)
        return Circuits(rows, np.concatenate([above, rows & ~above], axis=1), np.stack(nodes))

    def strength(self, scores: Scores) -> float:
        """What the edges that are chosen by some scores, before pruning, are together worth."""
        strengths = self.spread(self.graph.convention.strengths(torch.from_numpy(scores), self.choice.by).numpy())
        chosen = replace(self.choice, prune=False).members(self.graph.layout, strengths)
        return float(strengths[chosen].sum(dtype=np.float64))

    def spread(self, edges: NDArray[np.floating]) -> Float[np.ndarray, "sources destinations"]:
        """Numbers of edges in their places, 0 elsewhere."""
        spread = np.zeros(self.reach.shape, dtype=edges.dtype)
        spread[self.reach] = edges
        return spread


def _noise(cut: Cutter, sums: ClusterSums, rng: np.random.Generator, bar: Any) -> tuple[float, float, float]:
    """With signs flipped at random: the mean Jaccard index of resamples, without and with signs, and the strength."""
    signs = rng.choice(np.array([-1, 1]), len(sums.sizes)).astype(sums.scores.dtype)
    found = cut.circuits(sums.drawn(_RESAMPLES_OF_A_FLIP, rng, signs), bar)
    unsigned, signed = (float(upper(_jaccard(rows).numpy()).mean()) for rows in (found.edges, found.signed))
    return unsigned, signed, cut.strength((signs @ sums.scores) / sums.sizes.sum())


def _jaccard(rows: Bool[np.ndarray, "circuit part"]) -> Float[Tensor, "circuit circuit"]:
    # Two circuits without any edge have nothing in common that could be called stable.
    return torch.from_numpy(np.nan_to_num(pairwise_jaccard(rows)))


def _heads(graph: Graph) -> Bool[np.ndarray, " source"]:
    layout = graph.layout
    heads = np.zeros(len(layout.sources), dtype=bool)
    for layer in range(layout.n_layers):
        heads[layout.heads_at(layer)] = True
    return heads


def _provenance(graph: Graph, choice: Choice, resamples: int, seed: int) -> dict[str, Any]:
    return provenance(
        model_name=str(graph.provenance.get("model", "")),
        seed=seed,
        study="circuits.stability",
        rule=str(choice),
        resamples=resamples,
        scores=dict(graph.provenance),
    )
