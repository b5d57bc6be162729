"""Whether two graphs can be held against each other, and the heads of each as tables of truth."""

from __future__ import annotations

from dataclasses import fields

import torch
from jaxtyping import Bool
from torch import Tensor

from circuitkit.circuits.errors import CircuitError
from circuitkit.circuits.graphs.checking import check_same
from circuitkit.circuits.graphs.convention import Convention
from circuitkit.circuits.graphs.graph import Graph
from circuitkit.circuits.graphs.layout import Layout
from circuitkit.statistics import Head


def check_comparable(one: Graph, other: Graph, names: tuple[str, str] = ("this graph", "the other graph")) -> None:
    """Refuse graphs of other architectures, or whose scores mean other things, and name what differs.

    Raises:
        CircuitError: the layouts differ, or anything of how the scores were made.

    >>> layout = Layout((1,), (1,), (False,))
    >>> conventions = [Convention("eap-ig", metric) for metric in ("kl", "probability")]
    >>> graph, other = (Graph(layout, layout.reach.float(), layout.reach, each) for each in conventions)
    >>> check_comparable(graph, other)
    Traceback (most recent call last):
    circuitkit.circuits.errors.CircuitError: the scores of these graphs mean other things: metric is 'kl' in this graph
    and 'probability' in the other graph; score both in the same way
    """
    check_same(one.layout, other.layout, names[1])
    differing = [
        f"{each.name} is {ours!r} in {names[0]} and {theirs!r} in {names[1]}"
        for each in fields(Convention)
        if (ours := getattr(one.convention, each.name)) != (theirs := getattr(other.convention, each.name))
    ]
    if differing:
        raise CircuitError(
            f"the scores of these graphs mean other things: {'; '.join(differing)}; score both in the same way"
        )


def paired(one: Graph, other: Graph) -> bool:
    """Whether the examples of two graphs are taken for the same problems, one by one: as many, in the same groups."""
    if one.per_example is None or other.per_example is None or len(one.per_example) != len(other.per_example):
        return False
    if one.groups is None or other.groups is None:
        return one.groups is other.groups
    return bool(one.groups.equal(other.groups))


def uncut(graph: Graph) -> bool:
    """Whether every edge is in the circuit."""
    return graph.size == graph.layout.n_edges


def head_mask(graph: Graph) -> Bool[Tensor, "layer head"]:
    """Which heads are nodes of a graph's circuit; False where a layer has no such head."""
    return by_layer(graph.layout, graph.touched)


def by_layer(layout: Layout, of_sources: Tensor) -> Tensor:
    """What is told of sources `[…, source]`, for heads alone: `[…, layer, head]`, 0 where a layer has no such head."""
    table = of_sources.new_zeros((*of_sources.shape[:-1], layout.n_layers, max(layout.n_heads)))
    for layer, count in enumerate(layout.n_heads):
        table[..., layer, :count] = of_sources[..., layout.heads_at(layer)]
    return table


def there(layout: Layout) -> Bool[Tensor, "layer head"]:
    """Which heads there are."""
    return by_layer(layout, torch.ones(len(layout.sources), dtype=torch.bool))


def heads_in(mask: Bool[Tensor, "layer head"]) -> list[Head]:
    """The heads of a table of truth, each as layer and head."""
    return [(layer, head) for layer, head in mask.nonzero().tolist()]


def called(head: Head) -> str:
    """What a head is called in print.

    >>> called((2, 11))
    'L2H11'
    """
    return f"L{head[0]}H{head[1]}"
