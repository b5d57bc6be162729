"""Circuits as layered graphs: one, or that of a base model under that of its post-trained one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from circuitkit.plots.figures import new_axes
from circuitkit.plots.layered import Places

if TYPE_CHECKING:
    from circuitkit.circuits.graphs.graph import Graph

HELPS, HURTS, NEUTRAL = "#b35806", "#542788", "0.45"
"""Orange and purple, the ends of the diverging palette, told apart under every common colour blindness."""
_STYLES: Mapping[str, tuple[int, tuple[float, ...]]] = {
    "q": (0, ()),
    "k": (0, (4.0, 1.6)),
    "v": (0, (1.2, 1.2)),
    "other": (0, ()),
}
_FEW = 60
"""So many edges, or fewer, tell by their dashes what they are read as."""
_OUT = "0.82"
_MOST_LABELS = 40


@dataclass(frozen=True)
class _Drawn:
    """The edges that are drawn, weakest first: their ends, how strong each is of the strongest, and its colour."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    shares: Float[np.ndarray, " edge"]
    colours: Sequence[str]


def circuit_graph(graph: Graph, *, title: str | None = None, most: int = 300, axes: Axes | None = None) -> Axes:
    """Draw a circuit as a layered graph: layers upwards, heads side by side, MLPs at the right.

    Edges are orange where they help and purple where they hurt, as the graph's convention tells (by their sign alone
    where it does not), the wider the stronger. Of more than `most` edges the strongest are drawn, and the title says
    so. Nodes of the circuit are named; the others are dots. An edge enters a head's query, key or value from the left,
    the middle or the right, and of few edges by a full, dashed or dotted line.

    >>> layout = ck.circuits.Layout((2, 2), (2, 2), (False, False))
    >>> scores = torch.randn(layout.reach.shape) * layout.reach
    >>> graph = ck.circuits.Graph(layout, scores, layout.reach, ck.circuits.Convention("eap", "logit_difference"))
    >>> circuit_graph(graph.top(8)).get_ylabel()
    'layer'
    """
    rows, columns = np.nonzero(graph.members.numpy())
    scores = graph.scores.numpy()[rows, columns].astype(np.float64)
    signs, notes = _signs(graph)
    order = _strongest(np.abs(scores), most)
    rows, columns, scores = rows[order], columns[order], scores[order]
    largest = float(np.abs(scores).max(initial=0.0))
    shares = np.abs(scores) / (largest or 1.0)
    drawn = _Drawn(rows, columns, shares, [signs[int(sign)] for sign in np.sign(scores)])
    alone = axes is None
    axes = axes or _new_axes(graph)
    places = Places(graph.layout)
    styled = _draw_edges(axes, places, drawn)
    colours = dict.fromkeys(graph.nodes, "black")
    _draw_nodes(axes, places, colours)
    _dress(axes, places)
    unit = f" {graph.convention.unit}" if graph.convention.unit else ""
    told = [f"{graph.convention.method} of {graph.convention.metric}", _told(len(rows), graph.size)]
    axes.set_title(f"{title or _name(graph)}\n{'; '.join(told)}", fontsize=10)
    width = Line2D([], [], color=NEUTRAL, linewidth=3.4, label=f"strongest edge: |score| {largest:.3g}{unit}")
    if len(rows):
        _explain(axes, [*notes, width, *styled], alone=alone)
    return axes


def circuit_overlay(
    base: Graph,
    post: Graph,
    *,
    names: tuple[str, str] = ("base", "post-trained"),
    title: str | None = None,
    most: int = 300,
    axes: Axes | None = None,
) -> Axes:
    """Draw two circuits of one architecture over each other: what is in both, in the first alone, in the second alone.

    An edge is the wider the stronger it is among its own circuit's. Of more than `most` edges the strongest are drawn,
    and the title says so. Raises CircuitError where the two are of different architectures.

    >>> layout = ck.circuits.Layout((2, 2), (2, 2), (False, False))
    >>> scores = torch.randn(layout.reach.shape) * layout.reach
    >>> graph = ck.circuits.Graph(layout, scores, layout.reach, ck.circuits.Convention("eap", "logit_difference"))
    >>> circuit_overlay(graph.top(8), graph.top(12)).get_xlabel()
    'head (edges enter at its left: query, middle: key, right: value)'
    """
    either = (base | post).members.numpy()
    rows, columns = np.nonzero(either)
    inside = [graph.members.numpy()[rows, columns] for graph in (base, post)]
    shares = np.max([_shares(graph)[rows, columns] for graph in (base, post)], axis=0, initial=0.0)
    order = _strongest(shares, most)
    looks = {(True, True): NEUTRAL, (True, False): HELPS, (False, True): HURTS}
    colours = [looks[bool(one), bool(other)] for one, other in zip(*(mask[order] for mask in inside), strict=True)]
    alone = axes is None
    axes = axes or _new_axes(base)
    places = Places(base.layout)
    styled = _draw_edges(axes, places, _Drawn(rows[order], columns[order], shares[order], colours))
    ends, others = set(base.nodes), set(post.nodes)
    _draw_nodes(axes, places, {name: looks[name in ends, name in others] for name in ends | others})
    _dress(axes, places)
    axes.set_title(f"{title or f'{names[0]} and {names[1]}'}\n{_told(len(order), len(rows))}", fontsize=10)
    heads = [set(graph.heads) for graph in (base, post)]
    counts = (
        ("both", base & post, heads[0] & heads[1]),
        (f"{names[0]} alone", base - post, heads[0] - heads[1]),
        (f"{names[1]} alone", post - base, heads[1] - heads[0]),
    )
    notes = [
        Line2D(
            [],
            [],
            color=colour,
            linewidth=2.4,
            label=f"in {which}: {_counted(edges.size, 'edge')}, {_counted(len(own), 'head')}",
        )
        for (which, edges, own), colour in zip(counts, looks.values(), strict=True)
    ]
    _explain(axes, [*notes, *styled], alone=alone)
    return axes


def _counted(n: int, what: str) -> str:
    return f"{n:,} {what}{'s' * (n != 1)}"


# What is drawn


def _signs(graph: Graph) -> tuple[dict[int, str], list[Artist]]:
    """The colour of each sign of a score, and what a legend says of it."""
    from circuitkit.circuits.errors import CircuitError

    try:
        helpful = float(graph.convention.helpful(graph.scores.new_ones(())))
    except CircuitError:
        if graph.convention.magnitudes:
            return dict.fromkeys((-1, 0, 1), NEUTRAL), []
        looks, said = {1: HELPS, 0: NEUTRAL, -1: HURTS}, {1: "score above 0", -1: "score below 0"}
    else:
        up, down = (1, -1) if helpful > 0 else (-1, 1)
        better = "lowers" if graph.convention.higher_is_better else "raises"
        worse = "raises" if better == "lowers" else "lowers"
        looks = {up: HELPS, 0: NEUTRAL, down: HURTS}
        said = {
            up: f"helps: corrupting it {better} {graph.convention.metric}",
            down: f"hurts: corrupting it {worse} {graph.convention.metric}",
        }
    return looks, [Line2D([], [], color=looks[sign], linewidth=2.4, label=text) for sign, text in said.items()]


def _shares(graph: Graph) -> Float[np.ndarray, "sources destinations"]:
    """How strong each member is of the strongest."""
    strengths = np.where(graph.members.numpy(), np.abs(graph.scores.numpy().astype(np.float64)), 0.0)
    shares: Float[np.ndarray, "sources destinations"] = strengths / (strengths.max() or 1.0)
    return shares


def _strongest(strengths: Float[np.ndarray, " edge"], most: int) -> NDArray[np.int64]:
    """The places of the strongest, weakest first, so that the strong are drawn over the weak."""
    if most < 1:
        raise ValueError(f"most={most}: a picture draws one edge or more")
    order = np.argsort(-strengths, kind="stable")[:most]
    return order[::-1]


def _told(drawn: int, total: int) -> str:
    edges = "edge" if total == 1 else "edges"
    return f"{total:,} {edges}" if drawn == total else f"the {drawn:,} strongest of {total:,} {edges} are drawn"


def _name(graph: Graph) -> str:
    told = graph.provenance.get("read_from") or graph.provenance.get("model")
    return f"Circuit of {told}" if told else "Circuit"


# Drawing


def _new_axes(graph: Graph) -> Axes:
    layout = graph.layout
    wide, high = max(layout.n_heads) + 1.5, layout.n_layers + 2
    return new_axes(min(22.0, max(6.4, 1.4 + 0.56 * wide)), min(22.0, 1.7 + max(3.6, 0.62 * high)))


def _draw_edges(axes: Axes, places: Places, drawn: _Drawn) -> list[Artist]:
    """Draw edges, and give what a legend says of their dashes, where there are few enough to tell."""
    if not len(drawn.rows):
        return []
    curves = places.curves(drawn.rows, drawn.columns)
    # The more there are, the more see-through the weak: what lies under them shows.
    faint = 0.75 if len(drawn.rows) <= _FEW else 0.28
    alphas = faint + (0.95 - faint) * drawn.shares
    colours = [to_rgba(colour, alpha) for colour, alpha in zip(drawn.colours, alphas, strict=True)]
    widths = 0.5 + 2.9 * np.sqrt(drawn.shares)
    kinds = [_kind(places.layout.destinations[column]) for column in drawn.columns]
    told = len(kinds) <= _FEW
    styles = [_STYLES[kind] if told else _STYLES["other"] for kind in kinds]
    axes.add_collection(
        LineCollection(
            list(curves), colors=colours, linewidths=list(widths), linestyles=styles, capstyle="round", zorder=2
        )
    )
    entered = np.unique(drawn.columns)
    axes.add_collection(LineCollection(list(places.into_heads(entered)), colors="0.55", linewidths=0.6, zorder=1))
    for line in places.shared_by(entered):
        axes.plot(*line.T, color="0.35", linewidth=1.6, solid_capstyle="round", zorder=3)
    if not told:
        return []
    words = {"q": "into a query", "k": "into a key", "v": "into a value"}
    return [
        Line2D([], [], color=NEUTRAL, linewidth=1.6, linestyle=_STYLES[kind], label=words[kind])
        for kind in "qkv"
        if kind in kinds
    ]


def _kind(destination: str) -> str:
    return destination[-2] if destination.endswith(">") else "other"


def _draw_nodes(axes: Axes, places: Places, colours: Mapping[str, str]) -> None:
    """Draw all nodes, those with a colour large and named."""
    points = dict(zip(places.layout.nodes, places.nodes, strict=True))
    out = np.array([point for name, point in points.items() if name not in colours]).reshape(-1, 2)
    axes.plot(*out.T, "o", markersize=2.2, color=_OUT, zorder=1)
    size = _room(axes, places)
    for name, colour in colours.items():
        ends = name in ("input", "logits")
        axes.text(
            float(points[name][0]),
            float(points[name][1]),
            _label(name),
            ha="center",
            va="center",
            fontsize=max(3.2, min(8.0, 0.24 * size)) if not ends else 8.0,
            color=colour,
            zorder=5,
            bbox={
                "boxstyle": "round,pad=0.25" if name.startswith("a") else "square,pad=0.25",
                "facecolor": "white",
                "edgecolor": colour,
                "linewidth": 0.9,
            },
        )


def _label(name: str) -> str:
    return name.removeprefix("a").replace("h", "") if name.startswith("a") else name


def _room(axes: Axes, places: Places) -> float:
    """Points between two heads, about."""
    box = axes.get_position()
    width = float(axes.figure.get_figure(root=True).get_size_inches()[0]) * box.width * 72
    return width / (places.mlps + 1.5)


def _dress(axes: Axes, places: Places) -> None:
    layers, heads = places.layout.n_layers, max(places.layout.n_heads)
    ports = "head (edges enter at its left: query, middle: key, right: value"
    shared = places.layout.n_heads != places.layout.n_kv_heads
    axes.set(xlim=(-0.8, places.mlps + 0.7), ylim=(-1.5, layers + 0.5), ylabel="layer")
    axes.set_xlabel(
        f"{ports};\nunder a bar: the key and value that heads share)" if shared else f"{ports})", fontsize=8
    )
    for layer in range(0, layers, 2):
        axes.axhspan(layer - 0.42, layer + 0.58, color="0.967", linewidth=0, zorder=0)
    axes.set_yticks(range(0, layers, -(-layers // _MOST_LABELS)))
    named = range(0, heads, -(-heads // _MOST_LABELS))
    axes.set_xticks([*named, places.mlps], [*map(str, named), "MLP"])
    axes.tick_params(length=0, labelsize=8)
    axes.spines[:].set_visible(False)


def _explain(axes: Axes, notes: Sequence[Artist], *, alone: bool) -> None:
    if not alone:
        axes.legend(handles=list(notes), fontsize=7, loc="lower left", frameon=False)
        return
    columns = 1 if axes.figure.get_figure(root=True).get_size_inches()[0] < 6 else 2
    axes.figure.legend(handles=list(notes), loc="outside lower center", frameon=False, fontsize=8, ncols=columns)
