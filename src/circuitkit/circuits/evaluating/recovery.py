"""How well scores tell the edges of a known circuit from all others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import scipy
import torch
from jaxtyping import Bool
from numpy.typing import NDArray
from torch import Tensor

from circuitkit.circuits.errors import CircuitError
from circuitkit.circuits.graphs.checking import check_same, checked_members
from circuitkit.circuits.graphs.convention import By
from circuitkit.circuits.graphs.graph import Graph
from circuitkit.circuits.graphs.layout import Layout

Truth = Graph | Tensor | Iterable[str] | Iterable[tuple[str, str]]
"""The edges that are so: a graph's members, a mask `[sources, destinations]`, or names, as "a0.h1->m0" or in pairs."""


def auroc(graph: Graph, truth: Truth, by: By = "absolute") -> float:
    """The chance that an edge of the true circuit scores higher than one that is not; 1 is perfect, a half is chance.

    Edges that score alike count half (Mann-Whitney). What no source reaches is no edge, and is left out.

    Args:
        graph: the scores.
        truth: the true edges: another graph's members, a mask `[sources, destinations]`, or names.
        by: score by magnitude, or by how helpful an edge is.

    Raises:
        CircuitError: a true edge does not exist, or all edges are true or none.

    Source: Mann & Whitney 1947, Ann. Math. Stat. 18; edges as in InterpBench (arXiv 2407.14494).

    >>> layout = ck.circuits.Layout((1,), (1,), (False,))
    >>> scores = torch.zeros(layout.reach.shape)
    >>> scores[0, 3], scores[2, 4] = 2.0, 1.0
    >>> graph = ck.circuits.Graph(layout, scores, layout.reach, ck.circuits.Convention("eap", "logit_difference"))
    >>> auroc(graph, ["input->m0", "m0->logits"])
    1.0
    """
    true, false = _apart(graph, truth, by)
    ranks = scipy.stats.rankdata(np.concatenate([true, false]))
    above = ranks[: len(true)].sum() - len(true) * (len(true) + 1) / 2
    return float(above / (len(true) * len(false)))


def average_precision(graph: Graph, truth: Truth, by: By = "absolute") -> float:
    """The mean, over true edges, of the share of true ones among all edges that score at least as high.

    Where few edges of many are true it tells more than `auroc`; chance is the share of true edges. Edges that score
    alike come in together, in no order. Arguments and errors are those of `auroc`.

    Source: Davis & Goadrich 2006 (precision and recall curves); without interpolation.

    >>> layout = ck.circuits.Layout((1,), (1,), (False,))
    >>> convention = ck.circuits.Convention("eap", "kl")
    >>> graph = ck.circuits.Graph(layout, torch.zeros(layout.reach.shape), layout.reach, convention)
    >>> average_precision(graph, [("input", "m0"), ("m0", "logits")])
    0.25
    """
    true, false = _apart(graph, truth, by)
    # As many true edges score at least as high, and as many of all.
    true_above = len(true) - np.searchsorted(np.sort(true), true, side="left")
    false_above = len(false) - np.searchsorted(np.sort(false), true, side="left")
    return float((true_above / (true_above + false_above)).mean())


class _Strengths(NamedTuple):
    true: NDArray[np.floating]
    false: NDArray[np.floating]


def _apart(graph: Graph, truth: Truth, by: By) -> _Strengths:
    strengths = graph.convention.strengths(graph.scores, by).numpy()
    mask, reach = edge_mask(graph.layout, truth).numpy(), graph.layout.reach.numpy()
    true, false = strengths[mask], strengths[reach & ~mask]
    if not len(true) or not len(false):
        raise CircuitError(
            f"{len(true)} of {len(true) + len(false)} edges are true: recovery needs some that are and some that are "
            "not"
        )
    return _Strengths(true, false)


def edge_mask(layout: Layout, edges: Truth) -> Bool[Tensor, "sources destinations"]:
    """Edges as a mask: those of a graph, of a mask, or named.

    Raises:
        CircuitError: an edge does not exist, a name is not written "SOURCE->DESTINATION", or a graph or mask is of
            another architecture.

    >>> layout = Layout((1,), (1,), (False,))
    >>> edge_mask(layout, ["input->a0.h0<q>", ("m0", "logits")]).nonzero().tolist()
    [[0, 0], [2, 4]]
    """
    if isinstance(edges, Graph):
        check_same(layout, edges.layout, "the true circuit")
        return edges.members
    if isinstance(edges, Tensor):
        return checked_members(layout, edges)
    if isinstance(edges, str):
        raise CircuitError(f"true edges are a list: [{edges!r}], not {edges!r}")
    mask = torch.zeros_like(layout.reach)
    for edge in edges:
        source, destination = _ends(edge)
        row, column = layout.source(source), layout.destination(destination)
        if not layout.reach[row, column]:
            raise CircuitError(
                f"there is no edge {source}->{destination}: {source} writes after {destination} has read"
            )
        mask[row, column] = True
    return mask


def _ends(edge: str | tuple[str, str]) -> tuple[str, str]:
    parts = edge.split("->") if isinstance(edge, str) else edge
    if len(parts) != 2:
        raise CircuitError(f"an edge is written SOURCE->DESTINATION, such as a0.h1->m0, not {edge!r}")
    return parts[0].strip(), parts[1].strip()
