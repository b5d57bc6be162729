"""What the circuit view draws: nodes in their places, edges in order of strength, and curves beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict, get_args

import numpy as np
import torch
from jaxtyping import Bool, Int

from circuitkit.circuits.errors import CircuitError
from circuitkit.circuits.graphs.convention import By
from circuitkit.circuits.graphs.selection import strongest
from circuitkit.plots.layered import Places
from circuitkit.report.sections.circuit_curves import CurveData, PointData

if TYPE_CHECKING:
    from circuitkit.circuits import Graph, Stability

MOST_RANKED = 5_000
"""How many of a graph's edges are in a page, the strongest: as many as the circuits of "Thinking Sparks" have."""

Places2 = Int[np.ndarray, " edge"]


@dataclass(frozen=True)
class Named:
    """A graph, what it is called, and how stable it is where that is known."""

    name: str
    graph: Graph
    stable: Stability | None = None


class Nodes(TypedDict):
    """Each node or input in the order of the layout's, where it stands; of nodes, the inputs that it reads by."""

    names: list[str]
    x: list[float]
    y: list[float]


class Own(TypedDict):
    """The file's own circuit: its kept edges, how many it has, and by each order, as how many strongest it comes out.

    `n` holds an entry where the strongest so many edges, pruned, are this circuit; `degrees`, where not all edges are
    kept, of each node how many lead into it ("in") and out of it ("out").
    """

    edges: list[int]
    size: int
    n: dict[str, int]
    degrees: dict[str, list[int]] | None


class Sign(TypedDict):
    """What a score above and below 0 says; `helps` is the sign of what helps, 0 where that is not known."""

    helps: int
    above: str
    below: str


class GraphData(TypedDict):
    """One graph: scores of the kept edges, their order, and what is known of its nodes.

    `ranked` holds, by magnitude and where signs are known by helpfulness, the kept edges, the strongest first; of
    `rankable` edges in all.
    """

    name: str
    convention: str
    scores: Any
    ranked: dict[str, list[int]]
    rankable: int
    own: Own | None
    by: str
    sign: Sign | None
    importance: Any
    stability: dict[str, Any] | None


class CircuitData(TypedDict):
    """What the front end's circuit view draws (`frontend/src/views/circuit/data.ts`); without graphs, curves alone."""

    title: str
    metric: str
    unit: str
    n_edges: int
    layers: int
    heads: int
    nodes: Nodes
    inputs: Nodes
    reads: list[list[int]]
    source: list[int]
    destination: list[int]
    graphs: list[GraphData]
    curves: list[CurveData]
    points: list[PointData]


def circuit_data(
    title: str,
    graphs: Sequence[Named],
    curves: Sequence[CurveData] = (),
    points: Sequence[PointData] = (),
) -> tuple[CircuitData, list[str]]:
    """What the circuit view draws of one graph or of two of one architecture, and notes of what was thinned."""
    first = graphs[0].graph
    layout, places = first.layout, Places(first.layout)
    orders = [orders_of(each.graph) for each in graphs]
    kept, notes = _kept(graphs, orders)
    place = {int(edge): at for at, edge in enumerate(kept)}
    data: CircuitData = {
        "title": title,
        "metric": first.convention.metric,
        "unit": first.convention.unit,
        "n_edges": layout.n_edges,
        "layers": layout.n_layers,
        "heads": max(layout.n_heads),
        "nodes": _places(layout.nodes, places.nodes),
        "inputs": _places(layout.destinations, places.entrances),
        "reads": [list(layout.inputs_of(node)) for node in layout.nodes],
        "source": (kept // len(layout.destinations)).tolist(),
        "destination": (kept % len(layout.destinations)).tolist(),
        "graphs": [_graph(each, order, kept, place) for each, order in zip(graphs, orders, strict=True)],
        "curves": list(curves),
        "points": list(points),
    }
    return data, notes


def data_of_curves(curves: Sequence[CurveData], points: Sequence[PointData]) -> CircuitData:
    """What the circuit view draws of curves alone."""
    nothing: Nodes = {"names": [], "x": [], "y": []}
    return {
        "title": "Faithfulness",
        "metric": "",
        "unit": "",
        "n_edges": next(each["n_edges"] for each in (*curves, *points)),
        "layers": 0,
        "heads": 0,
        "nodes": nothing,
        "inputs": nothing,
        "reads": [],
        "source": [],
        "destination": [],
        "graphs": [],
        "curves": list(curves),
        "points": list(points),
    }


def orders_of(graph: Graph) -> dict[By, Places2]:
    """The graph's edges as flat places, the strongest first: by magnitude, and by helpfulness where signs are known.

    Equal ones stand by place, as `Graph.top` takes them. Where edges outside the circuit have no scores, since only
    those of the circuit were tried, they are in no order.

    >>> layout = ck.circuits.Layout((1,), (1,), (False,))
    >>> scores = torch.tensor([[1.0, 2, 0, -5, 4], [0, 0, 0, 0, -9], [0, 0, 0, 0, 3]])
    >>> graph = ck.circuits.Graph(layout, scores, layout.reach, ck.circuits.Convention("eap", "logit_difference"))
    >>> orders_of(graph)["absolute"][:3].tolist(), orders_of(graph)["signed"][:2].tolist()
    ([9, 3, 4], [4, 14])
    """
    outside = graph.layout.reach & ~graph.members
    there = graph.layout.reach if bool(graph.scores[outside].any()) else graph.members
    flat = np.flatnonzero(there.numpy())
    found: dict[By, Places2] = {}
    for by in get_args(By):
        try:
            strengths = graph.convention.strengths(graph.scores, by).numpy().ravel()[flat]
        except CircuitError:
            continue
        found[by] = flat[np.argsort(-strengths, kind="stable")]
    return found


def _kept(graphs: Sequence[Named], orders: Sequence[dict[By, Places2]]) -> tuple[Places2, list[str]]:
    """The edges that the page holds: of each order the strongest, and those of the circuits themselves."""
    parts = [order[:MOST_RANKED] for each in orders for order in each.values()]
    said = {"absolute": "magnitude", "signed": "helpfulness"}
    cut = [
        f"Of {each.name}'s {len(found['absolute']):,} edges the {MOST_RANKED:,} strongest by "
        f"{' and by '.join(said[by] for by in found)} are in the page, and the slider ends there."
        for each, found in zip(graphs, orders, strict=True)
        if len(found["absolute"]) > MOST_RANKED
    ]
    owned: list[tuple[str, Places2]] = []
    for each in graphs:
        own = np.flatnonzero(each.graph.members.numpy())
        if len(own) < each.graph.layout.n_edges:
            parts.append(_strongest_of(each.graph))
            owned.append((each.name, own))
    kept = np.unique(np.concatenate(parts))
    for name, own in owned:
        if (n := int(np.isin(own, kept).sum())) < len(own):
            cut.append(f"Of the {len(own):,} edges of {name}'s circuit {n:,}, the strongest among them, are kept.")
    return kept, cut


def _strongest_of(graph: Graph) -> Places2:
    magnitudes = graph.scores.abs().numpy()
    return np.flatnonzero(strongest(magnitudes, graph.members.numpy(), MOST_RANKED))


def _graph(each: Named, orders: dict[By, Places2], kept: Places2, place: dict[int, int]) -> GraphData:
    graph = each.graph
    own = _own(graph, orders, place)
    stable = None
    if each.stable is not None:
        stable = {
            "verdict": each.stable.verdict,
            "told": str(each.stable),
            "edges": each.stable.frequency.flatten()[torch.from_numpy(kept)],
            "nodes": each.stable.node_frequency,
        }
    return {
        "name": each.name,
        "convention": str(graph.convention),
        "scores": graph.scores.flatten()[torch.from_numpy(kept)].double(),
        "ranked": {by: [place[int(edge)] for edge in order[:MOST_RANKED]] for by, order in orders.items()},
        "rankable": len(orders["absolute"]),
        "own": own,
        "by": _usual(each, own),
        "sign": _sign(graph),
        "importance": graph.scores.abs().double().sum(1),
        "stability": stable,
    }


def _own(graph: Graph, orders: dict[By, Places2], place: dict[int, int]) -> Own | None:
    """The graph's circuit, and as how many strongest edges it comes out; None of a graph that was not cut."""
    if graph.size == graph.layout.n_edges or not graph.size:
        return None
    members = set(np.flatnonzero(graph.members.numpy()).tolist())
    sizes = {}
    for by, order in orders.items():
        n = 1 + max(at for at, edge in enumerate(order.tolist()) if edge in members)
        if _first(graph, order, n).equal(graph.members):
            sizes[str(by)] = n
    # All that the page holds, or an edge that the other circuit shares would be told as that one's alone.
    first = np.argsort(-graph.scores.abs().flatten().numpy(), kind="stable").tolist()
    edges = [place[edge] for edge in first if edge in members and edge in place]
    return {
        "edges": edges,
        "size": graph.size,
        "n": sizes,
        "degrees": None if len(edges) == graph.size else _degrees(graph),
    }


def _degrees(graph: Graph) -> dict[str, list[int]]:
    """How many edges lead into each node and out of it."""
    return {way: graph.complexity[f"{way}_degree"].astype(int).tolist() for way in ("in", "out")}


def _first(graph: Graph, order: Places2, n: int) -> Bool[torch.Tensor, "sources destinations"]:
    """The first edges of an order, pruned."""
    members = torch.zeros(graph.members.numel(), dtype=torch.bool)
    members[torch.from_numpy(order[:n])] = True
    return graph.with_members(members.reshape(graph.members.shape)).prune().members


def _usual(each: Named, own: Own | None) -> By:
    """By which order the circuit was cut: as its resamples were, or that by which it comes out."""
    if each.stable is not None:
        return each.stable.choice.by
    return "signed" if own is not None and list(own["n"]) == ["signed"] else "absolute"


def _sign(graph: Graph) -> Sign | None:
    """What signs say; None where scores are magnitudes."""
    convention = graph.convention
    if convention.magnitudes:
        return None
    try:
        helps = 1 if float(convention.helpful(torch.ones(()))) > 0 else -1
    except CircuitError:
        return {"helps": 0, "above": "score above 0", "below": "score below 0"}
    better, worse = ("lowers", "raises") if convention.higher_is_better else ("raises", "lowers")
    metric = convention.metric.replace("_", " ")
    told = f"helps: corrupting it {better} the {metric}", f"hurts: corrupting it {worse} the {metric}"
    above, below = told if helps > 0 else told[::-1]
    return {"helps": helps, "above": above, "below": below}


def _places(names: Sequence[str], points: Any) -> Nodes:
    return {"names": list(names), "x": points[:, 0].tolist(), "y": points[:, 1].tolist()}
