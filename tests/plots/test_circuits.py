"""Pictures of circuits: they draw the circuit's edges, name its nodes, and tell what they leave out."""

import io
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex

from circuitkit import plots
from circuitkit.circuits import CircuitError, Convention, Graph, Layout
from circuitkit.plots.circuits import HELPS, HURTS, NEUTRAL
from circuitkit.plots.layered import Places

LAYOUT = Layout((2, 2), (2, 2), (False, False))
SHARED = Layout((4, 4, 2), (2, 4, 1), (False, True, False))


def graph_of(layout: Layout = LAYOUT, seed: int = 0) -> Graph:
    scores = torch.randn(layout.reach.shape, generator=torch.Generator().manual_seed(seed)) * layout.reach
    told = Convention("eap-ig", "logit_difference", "logits", steps=5, rule="left")
    return Graph(layout, scores, layout.reach, told, provenance={"model": "tiny"})


def drawn(axes: Axes) -> LineCollection:
    """The edges, which are drawn first."""
    return next(each for each in axes.collections if isinstance(each, LineCollection))


def named(axes: Axes) -> dict[str, str]:
    """What stands in the picture as a node, and its colour."""
    return {text.get_text(): text.get_color() for text in axes.texts}


def legend(axes: Axes) -> list[str]:
    return [text.get_text() for each in axes.figure.legends for text in each.get_texts()]


def rendered(axes: Axes) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        axes.figure.savefig(buffer, format="png", dpi=40)
    return buffer.getvalue()


def test_a_picture_draws_the_circuits_edges_and_names_its_nodes_alone() -> None:
    circuit = graph_of().top(20).prune()
    assert circuit.size
    axes = circuit.plot()
    assert len(drawn(axes).get_segments()) == circuit.size
    labels = {name: name.removeprefix("a").replace("h", "") if name[0] == "a" else name for name in circuit.nodes}
    assert set(named(axes)) == set(labels.values())
    assert axes.get_title() == f"Circuit of tiny\neap-ig of logit_difference; {circuit.size} edges"
    assert axes.get_ylabel() == "layer" and rendered(axes)


def test_edges_go_from_their_sources_to_where_their_destinations_enter() -> None:
    circuit = graph_of(SHARED)
    places = Places(SHARED)
    ends = {
        (tuple(places.nodes[row].round(6)), tuple(places.entrances[column].round(6)))
        for row, column in circuit.members.nonzero().tolist()
    }
    segments = drawn(plots.circuit_graph(circuit, most=10_000)).get_segments()
    assert {(tuple(line[0].round(6)), tuple(line[-1].round(6))) for line in segments} == ends
    assert len(segments) == SHARED.n_edges and all((np.diff(line[:, 1]) >= -1e-9).all() for line in segments)
    assert len({tuple(point) for point in places.nodes}) == len(SHARED.nodes)
    assert len({tuple(point) for point in places.entrances}) == len(SHARED.destinations)


def test_edges_go_round_the_nodes_that_they_skip() -> None:
    layout = Layout((3,) * 4, (3,) * 4, (False,) * 4)
    places = Places(layout)

    def way(source: str, destination: str) -> np.ndarray:
        row, column = layout.sources.index(source), layout.destinations.index(destination)
        return places.curves(np.array([row]), np.array([column]))[0]

    # Straight up, m0 to m2 would look like m0 to m1 and m1 to m2.
    for source, destination, skipped in (
        ("m0", "m2", ["m1"]),
        ("m0", "m3", ["m1", "m2"]),
        ("a0.h1", "a3.h1<k>", ["a1.h1", "a2.h1"]),
        ("input", "logits", ["a0.h1", "a1.h1", "a2.h1", "a3.h1"]),
    ):
        line = way(source, destination)
        for node in skipped:
            x, y = places.nodes[layout.nodes.index(node)]
            assert abs(np.interp(y, line[:, 1], line[:, 0]) - x) > 0.1
        assert line[:, 0].max() < places.mlps + 0.7
    assert np.ptp(way("m0", "m1")[:, 0]) < 1e-9


def test_an_entrance_is_joined_to_its_head() -> None:
    places = Places(LAYOUT)
    entrances = np.array([LAYOUT.destinations.index("a1.h1<q>"), LAYOUT.destinations.index("a0.h0<v>")])
    joined = {tuple(end) for _, end in places.into_heads(entrances).round(6)}
    assert joined == {(1.0, 1.0), (0.0, 0.0)}
    assert not len(places.into_heads(np.array([LAYOUT.destinations.index("m0"), LAYOUT.logits_at])))
    # What heads share is joined to all of them by a bar.
    shared = Places(SHARED)
    assert not len(shared.into_heads(np.array([SHARED.keys_at(0).start])))


def test_of_many_edges_the_strongest_are_drawn_and_the_title_says_so() -> None:
    graph = graph_of()
    axes = graph.plot(most=5)
    assert f"the 5 strongest of {LAYOUT.n_edges} edges are drawn" in axes.get_title()
    few = drawn(graph.top(5).plot())
    assert sorted(map(str, drawn(axes).get_segments())) == sorted(map(str, few.get_segments()))
    with pytest.raises(ValueError, match="most=0"):
        graph.plot(most=0)
    widths = drawn(axes).get_linewidths()
    assert list(widths) == sorted(widths) and widths[-1] > widths[0]


def colours_by_score(graph: Graph) -> dict[str, str]:
    """The colour of the edge with the highest and of that with the lowest score."""
    rows, columns = graph.members.nonzero(as_tuple=True)
    scores = graph.scores[rows, columns]
    picture = {}
    for which, at in (("highest", scores.argmax()), ("lowest", scores.argmin())):
        members = torch.zeros_like(graph.members)
        members[rows[at], columns[at]] = True
        picture[which] = to_hex(drawn(graph.with_members(members).plot()).get_colors()[0])
    return picture


def test_colours_say_what_helps() -> None:
    graph = graph_of()
    helping = {"highest": HELPS, "lowest": HURTS}
    assert colours_by_score(graph) == helping
    raises = replace(graph.convention, positive="corrupting raises the metric")
    assert colours_by_score(replace(graph, convention=raises)) == {"highest": HURTS, "lowest": HELPS}
    assert "helps: corrupting it lowers logit_difference" in legend(graph.plot())
    kl = replace(graph, convention=replace(graph.convention, metric="kl", higher_is_better=False))
    assert colours_by_score(kl) == {"highest": HURTS, "lowest": HELPS}
    assert "helps: corrupting it raises kl" in legend(kl.plot())
    unknown = replace(graph, convention=replace(graph.convention, positive="unknown"))
    assert colours_by_score(unknown) == helping and "score above 0" in legend(unknown.plot())
    magnitudes = replace(graph, convention=replace(graph.convention, examples="mean-absolute"))
    assert set(colours_by_score(magnitudes).values()) == {to_hex(NEUTRAL)}


def test_few_edges_tell_how_they_are_read() -> None:
    axes = graph_of().top(12).plot()
    assert {"into a query", "into a key", "into a value"} & set(legend(axes))
    many = graph_of(Layout((4,) * 3, (4,) * 3, (False,) * 3)).plot()
    assert not {"into a query", "into a key", "into a value"} & set(legend(many))


def test_heads_that_share_a_key_stand_over_a_bar() -> None:
    one = graph_of(SHARED)
    members = torch.zeros_like(one.members)
    members[0, SHARED.destination("a0.kv1<k>")] = True
    axes = one.with_members(members).plot()
    (bar,) = [line for line in axes.get_lines() if line.get_linewidth() == 1.6]
    left, right = bar.get_xdata()
    assert left < 2 < 3 < right and left > 1
    assert "share" in axes.get_xlabel() and "share" not in graph_of().plot().get_xlabel()


@pytest.mark.parametrize("layout", [LAYOUT, SHARED, Layout((1,), (1,), (True,))])
def test_pictures_of_no_edges_and_of_all_are_drawn(layout: Layout) -> None:
    assert rendered(graph_of(layout).plot())
    assert not named(graph_of(layout).empty().plot())


def counted(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def test_two_circuits_are_drawn_over_each_other() -> None:
    graph = graph_of()
    base, post = graph.top(9), graph_of(seed=1).top(7)
    axes = plots.circuit_overlay(base, post, names=("before", "after"))
    both, before, after = (base & post).size, (base - post).size, (post - base).size
    colours = [to_hex(colour) for colour in drawn(axes).get_colors()]
    assert [colours.count(to_hex(colour)) for colour in (NEUTRAL, HELPS, HURTS)] == [both, before, after]
    heads = [set(each.heads) for each in (base, post)]
    assert legend(axes)[:3] == [
        f"in both: {counted(both, 'edge')}, {counted(len(heads[0] & heads[1]), 'head')}",
        f"in before alone: {counted(before, 'edge')}, {counted(len(heads[0] - heads[1]), 'head')}",
        f"in after alone: {counted(after, 'edge')}, {counted(len(heads[1] - heads[0]), 'head')}",
    ]
    for layer, head in heads[1] - heads[0]:
        assert named(axes)[f"{layer}.{head}"] == HURTS
    assert rendered(axes)
    with pytest.raises(CircuitError, match="another architecture"):
        plots.circuit_overlay(base, graph_of(SHARED))


def test_pictures_are_drawn_on_axes_that_are_given() -> None:
    axes = plots.new_axes(6, 6)
    assert graph_of().plot(axes=axes, title="Mine") is axes
    assert axes.get_title().startswith("Mine\n") and axes.get_legend() and not axes.figure.legends
