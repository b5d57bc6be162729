"""The reference implementation's JSON: read, written, and refused where it is not that."""

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuitkit.circuits import CircuitError, Graph, Layout
from circuits.graphs.random_graphs import graph_of

LOWERS, RAISES = "corrupting lowers the metric", "corrupting raises the metric"
TWO_LAYERS = Layout((2, 2), (2, 2), (False, False))
SHARED = Layout((4, 4), (2, 2), (False, False))


@pytest.fixture(scope="module")
def published() -> Path:
    if "CIRCUITKIT_DATA" not in os.environ:
        pytest.skip("needs the published circuit: set CIRCUITKIT_DATA to the folder of shared data")
    return Path(os.environ["CIRCUITKIT_DATA"]) / "circuits" / "ioi-eap-ig.json"


@pytest.fixture(scope="module")
def ioi(published: Path) -> Graph:
    return Graph.from_eap_ig(published, positive=RAISES, metric="logit_difference")


def test_the_published_circuit_is_read_and_written_as_it_was(ioi: Graph, published: Path, tmp_path: Path) -> None:
    graph = ioi
    assert (graph.layout.n_edges, graph.size, len(graph.layout.nodes)) == (32_491, 756, 158)
    assert graph.scores.dtype == torch.float32
    assert graph.convention.positive == RAISES and graph.convention.metric == "logit_difference"
    assert graph.edge("a9.h9", "logits").score == pytest.approx(-0.28153809905052185, abs=0)
    assert graph.to_eap_ig(tmp_path / "again.json").read_bytes() == published.read_bytes()


def test_the_published_circuit_is_the_800_strongest_edges_pruned(ioi: Graph) -> None:
    assert torch.equal(ioi.whole().top(800).prune().members, ioi.members)


def test_the_published_circuits_heads_are_those_of_the_literature(ioi: Graph) -> None:
    top = ioi.importance().flatten().argsort(descending=True)[:14].tolist()
    known = "9.9 10.7 9.6 5.5 8.6 3.0 8.10 7.9 10.10 11.10 6.9 10.0 7.3 0.1"
    assert [f"{at // 12}.{at % 12}" for at in top] == known.split()


def test_the_reader_says_which_sign_helps(ioi: Graph, tmp_path: Path) -> None:
    # A name mover helps and a negative name mover does not, which the literature knows and the file does not.
    assert ioi.whole().top(1, by="signed").frame["source"].item() == "a9.h9"
    path = graph_of(TWO_LAYERS, seed=1).to_eap_ig(tmp_path / "a.json", d_model=4)

    def best(positive: str) -> float:
        return Graph.from_eap_ig(path, positive=positive).top(1, by="signed").frame["score"].item()  # type: ignore[arg-type]

    assert (best(RAISES), best(LOWERS)) == (-3.0, 3.0)
    with pytest.raises(CircuitError, match=r"not known.*positive="):
        best("unknown")
    with pytest.raises(CircuitError, match="'unknown', not 'helps'"):
        best("helps")
    with pytest.raises(TypeError, match="positive"):
        Graph.from_eap_ig(path)  # type: ignore[call-arg]


layouts = st.builds(
    lambda layers, heads, parallel: Layout((heads,) * layers, (heads,) * layers, (parallel,) * layers),
    st.integers(1, 3),
    st.integers(1, 3),
    st.booleans(),
)


@settings(max_examples=15, deadline=None)
@given(layouts, st.integers(0, 100), st.booleans())
def test_what_is_written_is_read_again(layout: Layout, seed: int, double: bool) -> None:
    graph = graph_of(layout, seed, density=0.4)
    graph = Graph(layout, graph.scores.double() / 3 if double else graph.scores / 3, graph.members, graph.convention)
    with TemporaryDirectory() as folder:
        again = Graph.from_eap_ig(graph.to_eap_ig(Path(folder) / "a.json", d_model=8), positive=LOWERS)
    assert again.layout == layout and torch.equal(again.members, graph.members)
    assert torch.equal(again.scores.double(), graph.scores.double())


def test_the_format_has_its_nodes_and_edges_in_the_references_order(tmp_path: Path) -> None:
    parallel = Layout((1, 1), (1, 1), (True, True))
    told = json.loads(graph_of(parallel).to_eap_ig(tmp_path / "a.json", d_model=4).read_text())
    assert told["cfg"] == {"n_layers": 2, "n_heads": 1, "parallel_attn_mlp": True, "d_model": 4}
    assert list(told["nodes"]) == ["input", "a0.h0", "m0", "a1.h0", "m1", "logits"]
    first = ["input->a0.h0<q>", "input->a0.h0<k>", "input->a0.h0<v>", "input->m0"]
    assert list(told["edges"])[:5] == [*first, "input->a1.h0<q>"]
    assert list(told["edges"])[-1] == "m1->logits"


def test_keys_and_values_that_heads_share_are_split_only_when_asked(tmp_path: Path) -> None:
    graph = graph_of(SHARED, density=0.3)
    with pytest.raises(CircuitError, match=r"heads share theirs.*shared='split'"):
        graph.to_eap_ig(tmp_path / "a.json", d_model=8)
    path = graph.to_eap_ig(tmp_path / "a.json", d_model=8, shared="split")
    edges = json.loads(path.read_text())["edges"]
    halves = [edges[f"m0->a1.h{head}<k>"]["score"] for head in (2, 3)]
    assert halves == [graph.edge("m0", "a1.kv1<k>").score / 2] * 2
    again = Graph.from_eap_ig(path, positive=LOWERS, layout=SHARED)
    assert torch.equal(again.scores, graph.scores) and torch.equal(again.members, graph.members)
    alone = Graph.from_eap_ig(path, positive=LOWERS)
    assert alone.layout.n_kv_heads == (4, 4) and alone.layout.n_edges > SHARED.n_edges


def test_scores_of_a_groups_query_heads_add_up(tmp_path: Path) -> None:
    each = graph_of(Layout((4, 4), (4, 4), (False, False)), seed=3, density=0.2)
    path = each.to_eap_ig(tmp_path / "a.json", d_model=8)
    grouped = Graph.from_eap_ig(path, positive=LOWERS, layout=SHARED)
    for source in SHARED.sources[: SHARED.heads_at(1).start]:
        for kind in "kv":
            pair = [each.edge(source, f"a1.h{head}<{kind}>") for head in (2, 3)]
            edge = grouped.edge(source, f"a1.kv1<{kind}>")
            assert edge.score == sum(one.score for one in pair)
            assert edge.in_circuit == any(one.in_circuit for one in pair)
        assert grouped.edge(source, "a1.h3<q>")[2:] == each.edge(source, "a1.h3<q>")[2:]
    with pytest.raises(CircuitError, match="another architecture: 2 layers of 4 heads"):
        Graph.from_eap_ig(path, positive=LOWERS, layout=TWO_LAYERS)


def test_what_the_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(CircuitError, match="give d_model="):
        graph_of(TWO_LAYERS).to_eap_ig(path)
    with pytest.raises(CircuitError, match="one number of heads"):
        graph_of(Layout((2, 1), (2, 1), (False, False))).to_eap_ig(path, d_model=4)
    with pytest.raises(CircuitError, match=r"saved as \.json"):
        graph_of(TWO_LAYERS).to_eap_ig(tmp_path / "a.safetensors", d_model=4)
    with pytest.raises(CircuitError, match="not 'first'"):
        graph_of(TWO_LAYERS).to_eap_ig(path, d_model=4, shared="first")  # type: ignore[arg-type]
    assert not path.exists()


BROKEN = {
    "an unknown node": (lambda told: told["nodes"].update({"a7.h7": {"in_graph": True}}), r"unknown nodes.*'a7.h7'"),
    "a missing node": (lambda told: told["nodes"].pop("m1"), r"1 nodes are missing.*'m1'"),
    "an unknown edge": (
        lambda told: told["edges"].update({"m1->m0": {"score": 0.0, "in_graph": False}}),
        r"unknown edges.*'m1->m0'",
    ),
    "a missing edge": (lambda told: told["edges"].pop("m0->a1.h1<k>"), r"1 edges are missing.*'m0->a1.h1<k>'"),
    "a score that is no number": (
        lambda told: told["edges"]["m0->m1"].update(score=float("nan")),
        r"m0->m1 has score nan",
    ),
    "a score that is text": (lambda told: told["edges"]["m0->m1"].update(score="1"), r"m0->m1 has score '1'"),
    "an edge that is neither in nor out": (lambda told: told["edges"]["m0->m1"].update(in_graph=2), r"edge m0->m1"),
    "a node that is neither in nor out": (lambda told: told["nodes"].update(m0=True), r"node m0"),
    "neurons": (lambda told: told["nodes"]["m0"].update(neurons=[True]), r"node m0 has neurons"),
    "no edges": (lambda told: told.pop("edges"), r"not in the EAP-IG format"),
    "another cfg": (lambda told: told["cfg"].pop("n_heads"), r"cfg.n_heads is None"),
    "no layers": (lambda told: told["cfg"].update(n_layers=0), r"0 layers"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_files_are_refused_by_name(what: str, tmp_path: Path) -> None:
    path = graph_of(TWO_LAYERS).to_eap_ig(tmp_path / "a.json", d_model=4)
    breaking, named = BROKEN[what]
    told = json.loads(path.read_text())
    breaking(told)
    path.write_text(json.dumps(told))
    with pytest.raises(CircuitError, match=rf"a.json.*{named}"):
        Graph.from_eap_ig(path, positive=LOWERS)


def test_files_that_are_no_json_are_refused(tmp_path: Path) -> None:
    path = graph_of(TWO_LAYERS).to_eap_ig(tmp_path / "a.json", d_model=4)
    path.write_text(path.read_text()[:-100])
    with pytest.raises(CircuitError, match=r"a.json: cut short or no JSON"):
        Graph.from_eap_ig(path, positive=LOWERS)
    path.write_text("[1, 2]")
    with pytest.raises(CircuitError, match="not in the EAP-IG format"):
        Graph.from_eap_ig(path, positive=LOWERS)
    binary = graph_of(TWO_LAYERS).save(tmp_path / "graph.safetensors")
    with pytest.raises(CircuitError, match=r"Graph\.load"):
        Graph.from_eap_ig(binary, positive=LOWERS)
    with pytest.raises(FileNotFoundError, match="no such file"):
        Graph.from_eap_ig(tmp_path / "none.json", positive=LOWERS)


def test_nodes_that_disagree_with_edges_are_told(tmp_path: Path) -> None:
    graph = graph_of(TWO_LAYERS)
    path = graph.empty().to_eap_ig(tmp_path / "a.json", d_model=4)
    told = json.loads(path.read_text())
    told["nodes"]["a1.h0"] = {"in_graph": True, "score": 0.5}
    path.write_text(json.dumps(told))
    with pytest.warns(UserWarning) as warned:
        assert Graph.from_eap_ig(path, positive=LOWERS).size == 0
    texts = [str(each.message) for each in warned]
    assert any("1 nodes disagree with the edges (the first, a1.h0, is in, and no edge" in text for text in texts)
    assert any("scores of nodes are not read" in text for text in texts)
