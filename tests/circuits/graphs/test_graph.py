"""A graph's views, its tables, and what it refuses to be made of."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import circuitkit as ck
from circuitkit.circuits import CircuitError, Graph, Layout
from circuits.graphs.random_graphs import CONVENTION, graph_of, graphs, named, readers

few = settings(max_examples=15, deadline=None)
TWO_LAYERS = Layout((4, 2), (2, 2), (False, True))


@few
@given(graphs)
def test_nodes_are_what_edges_touch(graph: Graph) -> None:
    touched = touched_by(graph)
    assert graph.nodes == tuple(node for node in graph.layout.nodes if node in touched)
    leading = {source for source, _ in named(graph.prune())}
    assert set(graph.prune().nodes) == leading | ({"logits"} if leading else set())
    assert [f"a{layer}.h{head}" for layer, head in graph.heads] == [n for n in graph.nodes if n.startswith("a")]
    assert [f"m{layer}" for layer in graph.mlps] == [node for node in graph.nodes if node.startswith("m")]


def touched_by(graph: Graph) -> set[str]:
    """The ends of edges; of a shared key or value, those heads that something leads out of, if there are any."""
    read_by, edges = readers(graph.layout), named(graph)
    leading = {source for source, _ in edges}
    return leading | {node for _, end in edges for node in (read_by[end] & leading or read_by[end])}


def test_a_head_is_not_in_a_circuit_since_another_of_its_group_is() -> None:
    graph = graph_of(Layout((4,), (2,), (False,)))
    members = torch.zeros_like(graph.members)
    for source, destination in (("input", "a0.kv1<v>"), ("a0.h3", "logits")):
        members[graph.layout.source(source), graph.layout.destination(destination)] = True
    circuit = graph.with_members(members)
    assert circuit.heads == circuit.prune().heads == [(0, 3)] and circuit.prune().size == 2
    table = circuit.complexity.set_index("node")
    assert table["in_degree"].to_dict() == dict.fromkeys(graph.layout.nodes, 0) | {"a0.h3": 1, "logits": 1}


@few
@given(graphs)
def test_tables_have_a_row_an_edge(graph: Graph) -> None:
    assert len(graph.edges) == graph.layout.n_edges and graph.edges["in_circuit"].sum() == graph.size
    frame = graph.frame
    assert set(zip(frame["source"], frame["destination"], strict=True)) == named(graph)
    assert frame["score"].abs().is_monotonic_decreasing
    for row in graph.edges.itertuples():
        edge = graph.edge(row.source, row.destination)
        assert (edge.score, edge.in_circuit) == (row.score, row.in_circuit)
        ends = [
            "input" if row.source_layer < 0 else named_node(row.source_layer, row.source_head),
            named_node(row.destination_layer, row.destination_head, row.kind, graph.layout),
        ]
        assert ends == [row.source, row.destination]


def named_node(layer: int, head: int, kind: str = "", layout: Layout | None = None) -> str:
    if kind == "logits":
        assert layout and layer == layout.n_layers and head == -1
        return "logits"
    if head < 0:
        return f"m{layer}"
    shared = kind in ("k", "v") and layout and layout.n_kv_heads[layer] < layout.n_heads[layer]
    return f"a{layer}.{'kv' if shared else 'h'}{head}" + (f"<{kind}>" if kind else "")


@few
@given(graphs, st.sampled_from(["all", "circuit"]))
def test_a_heads_importance_is_what_leaves_it(graph: Graph, edges: str) -> None:
    importance = graph.importance(edges)
    table = graph.edges if edges == "all" else graph.frame
    for layer, head in torch.cartesian_prod(torch.arange(importance.shape[0]), torch.arange(importance.shape[1])):
        out = table[(table["source_layer"] == int(layer)) & (table["source_head"] == int(head))]["score"].abs().sum()
        exists = head < graph.layout.n_heads[layer]
        assert importance[layer, head].item() == pytest.approx(out) if exists else importance[layer, head].isnan()


@few
@given(graphs)
def test_complexity_counts_edges_and_ways(graph: Graph) -> None:
    layout, read_by = graph.layout, readers(graph.layout)
    edges = named(graph)
    # A step leads from a node along an edge into a reader of the edge's destination.
    steps: dict[str, list[str]] = {node: [] for node in layout.nodes}
    for source, destination in edges:
        steps[source] += read_by[destination]
    through = dict.fromkeys(layout.nodes, 0)

    def walk(way: list[str]) -> None:
        if way[-1] == "logits":
            for node in way:
                through[node] += 1
            return
        for node in steps[way[-1]]:
            walk([*way, node])

    if edge_limit := len(edges) <= 60:
        walk(["input"])
    for row in graph.complexity.itertuples():
        assert row.out_degree == sum(source == row.node for source, _ in edges)
        degree = sum(row.node in read_by[destination] for _, destination in edges)
        assert row.in_degree == (degree if row.node in touched_by(graph) else 0)
        assert not edge_limit or row.paths == through[row.node]


def test_ways_are_exact_however_many_there_are() -> None:
    graph = graph_of(Layout((8,) * 30, (2,) * 30, (False,) * 30))
    frame = graph.complexity
    ways = 1  # into each layer's attention; each head adds a way by its query, its key and its value
    for _ in range(30):
        ways += 8 * 3 * ways
        ways += ways
    assert frame["paths"].iloc[-1] == frame["paths"].iloc[0] == ways > 2**150
    assert frame["layer"].tolist()[:2] == [-1, 0] and frame["layer"].iloc[-1] == 30


def test_a_spans_scores_make_a_graph_of_their_own() -> None:
    graph = graph_of(TWO_LAYERS, density=0.5)
    whole = replace(graph, per_example=graph.scores[None], by_span={"rule": graph.scores / 4})
    part = whole.of_span("rule")
    assert torch.equal(part.scores, graph.scores / 4) and torch.equal(part.members, graph.members)
    assert part.per_example is None and part.convention == graph.convention
    with pytest.raises(CircuitError, match=r"no scores of a span 'query': it has 'rule'"):
        whole.of_span("query")
    with pytest.raises(CircuitError, match=r"attribute with spans="):
        graph.of_span("rule")


def test_bf16_scores_are_held_in_single_precision() -> None:
    graph = graph_of(TWO_LAYERS)
    assert replace(graph, scores=graph.scores.bfloat16()).scores.dtype == torch.float32
    assert replace(graph, scores=graph.scores.double()).scores.dtype == torch.float64


def test_what_is_no_graph_is_refused_by_name() -> None:
    graph = graph_of(TWO_LAYERS)
    at = TWO_LAYERS.source("m0"), TWO_LAYERS.destination("a1.h1<k>")
    for value in (torch.nan, torch.inf):
        broken = graph.scores.clone()
        broken[at] = value
        with pytest.raises(CircuitError, match=r"scores has m0->a1.h1<k> = (nan|inf)"):
            replace(graph, scores=broken)
    with pytest.raises(CircuitError, match=r"m0->a1.h1<k> of example 1 = nan"):
        replace(graph, per_example=torch.stack([graph.scores, graph.scores.index_put(indices_of(at), NAN)]))
    backwards = TWO_LAYERS.source("m1"), TWO_LAYERS.destination("a0.h0<q>")
    with pytest.raises(CircuitError, match=r"m1->a0.h0<q>, where there is no edge"):
        replace(graph, by_span={"all": graph.scores.index_put(indices_of(backwards), torch.tensor(1.0))})
    with pytest.raises(CircuitError, match=r"m1->a0.h0<q>, which is no edge"):
        graph.with_members(graph.members.index_put(indices_of(backwards), torch.tensor(True)))
    for wrong in (
        {"scores": graph.scores[:-1]},
        {"scores": graph.scores.long()},
        {"scores": graph.scores[None]},
        {"members": graph.members.float()},
        {"members": graph.members[:, 1:]},
        {"per_example": graph.scores},
        {"groups": torch.zeros(2, 2)},
        {"groups": torch.zeros(3), "per_example": graph.scores[None]},
    ):
        with pytest.raises(CircuitError, match=r"must (be|name)|axes"):
            replace(graph, **wrong)


NAN = torch.tensor(torch.nan)


def indices_of(at: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(at[0]), torch.tensor(at[1])


def test_edges_and_nodes_that_are_not_there_are_named() -> None:
    graph = graph_of(TWO_LAYERS)
    with pytest.raises(CircuitError, match=r"no source 'a0.h9'.*did you mean"):
        graph.edge("a0.h9", "logits")
    with pytest.raises(CircuitError, match=r"no destination 'a0.h0<k>'.*a0.kv0<k>"):
        graph.edge("input", "a0.h0<k>")
    with pytest.raises(CircuitError, match="m1 writes after m0 reads"):
        graph.edge("m1", "m0")
    with pytest.raises(CircuitError, match="not 'some'"):
        graph.importance("some")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (Layout((4,), (2,), (False,)), "has 2 layers and the other graph 1"),
        (Layout((4, 4), (2, 2), (False, True)), "heads of layer 1 are 2 here and 4"),
        (Layout((4, 2), (4, 2), (False, True)), "key/value heads of layer 0 are 2 here and 4"),
        (Layout((4, 2), (2, 2), (False, False)), "parallel of layer 1 are True here and False"),
    ],
)
def test_graphs_of_other_architectures_are_refused(other: Layout, told: str) -> None:
    for join in (Graph.__and__, Graph.__or__, Graph.__sub__):
        with pytest.raises(CircuitError, match=f"another architecture.*{told}"):
            join(graph_of(TWO_LAYERS), graph_of(other))


def test_a_graph_fits_the_models_of_its_architecture() -> None:
    model = ck.load("deductor-20k")
    layout = Layout.of(model)
    graph_of(layout).check_fits(model)
    with pytest.raises(CircuitError, match=r"another architecture.*deductor-130k"):
        graph_of(layout).check_fits(ck.load("deductor-130k"))


def test_a_graph_tells_what_it_holds() -> None:
    text = repr(graph_of(TWO_LAYERS).top(3))
    assert "3 of 64 edges" in text and "eap of logit_difference" in text and "positive: corrupting lowers" in text
    assert graph_of(TWO_LAYERS) == graph_of(TWO_LAYERS) != graph_of(TWO_LAYERS).top(3)
    assert graph_of(TWO_LAYERS) != replace(graph_of(TWO_LAYERS), convention=replace(CONVENTION, metric="kl"))
