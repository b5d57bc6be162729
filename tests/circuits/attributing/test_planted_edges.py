"""The planted circuits' edges: told by the construction, and found by attribution, decoys and all."""

import pytest
import torch

import circuitkit as ck
from circuitkit.circuits import Graph, Layout, attribute, auroc
from circuitkit.model import planted

CORRUPTIONS = ("subject", "query", "object")
# Every task, architecture and corruption in a few fast cases; all of them, over seeds, in the slow suite.
FAST = [("planted-induction-gpt2", 0, "query"), ("planted-two-hop-llama", 0, "subject")]
ALL = [(name, seed, corruption) for name in planted.names() for seed in range(3) for corruption in CORRUPTIONS]


def asked(name: str, seed: int, corruption: str, **settings) -> tuple[Graph, frozenset[tuple[str, str]]]:
    planned = planted.build(name, seed)
    model = ck.Model(planned.model, planned.tokenizer, name=name)
    pairs = ck.Pairs(*planned.pairs(3, seed=seed + 1, length=14, corruption=corruption))
    return attribute(model, pairs, progress=False, **settings), planned.edges(corruption)


def circuit(graph: Graph, n: int) -> set[tuple[str, str]]:
    found = graph.top(n).prune().frame
    return set(zip(found["source"], found["destination"], strict=True))


@pytest.mark.parametrize("name", planted.names())
def test_the_truth_is_in_the_graph_and_runs_from_the_input_to_the_logits(name):
    for seed in range(2):
        planned = planted.build(name, seed)
        layout = Layout.of(ck.Model(planned.model, planned.tokenizer))
        for corruption in CORRUPTIONS:
            mask = torch.zeros_like(layout.reach)
            for source, destination in planned.edges(corruption):
                mask[layout.source(source), layout.destination(destination)] = True
            assert (layout.reach | ~mask).all()
            graph = Graph(layout, mask.float(), mask, ck.circuits.Convention("truth", "none"))
            assert (
                graph.prune().size
                == graph.size
                == {"object": 4, "query": 4, "subject": 5}[corruption] + ("hop" in name and corruption != "object")
            )
            # Heads that share keys and values with a planted one are touched too, but for what they would write.
            writing = {source for source, _ in planned.edges(corruption)} - {"input"}
            assert writing <= {f"a{layer}.h{head}" for layer, head in planned.heads}


def test_the_truth_of_each_corruption_is_what_it_changes():
    planned = planted.build("planted-two-hop-gpt2")
    by_role = {f"a{layer}.h{head}": role for role, (layer, head) in planned.circuit.items()}

    def told(corruption: str) -> set[tuple[str, str]]:
        named = set()
        for source, destination in planned.edges(corruption):
            head, _, part = destination.partition("<")
            named.add((by_role.get(source, source), by_role.get(head, head) + ("<" + part if part else "")))
        return named

    outputs = {("second_hop", "logits"), ("saturated", "logits")}
    bridges = {("first_hop", "second_hop<q>"), ("first_hop", "saturated<q>")}
    assert told("object") == {("input", "second_hop<v>"), ("input", "saturated<v>")} | outputs
    assert told("query") == {("input", "first_hop<q>")} | bridges | outputs
    assert told("subject") == {("input", "previous<v>"), ("previous", "first_hop<k>")} | bridges | outputs
    with pytest.raises(ValueError, match="corruption must be"):
        planned.edges("everything")


@pytest.mark.parametrize(("name", "seed", "corruption"), FAST)
def test_eap_ig_finds_the_planted_circuit(name, seed, corruption):
    graph, truth = asked(name, seed, corruption, steps=5, rule="midpoint")
    assert auroc(graph, truth) >= 0.99
    assert circuit(graph, len(truth)) == truth


@pytest.mark.slow
@pytest.mark.parametrize(("name", "seed", "corruption"), ALL)
@pytest.mark.parametrize(
    "settings",
    [{"steps": 20}, {"steps": 5, "rule": "midpoint"}, {"method": "eap-qk"}, {"method": "exact"}],
    ids=["eap-ig-left-20", "eap-ig-midpoint-5", "eap-qk", "exact"],
)
def test_methods_that_see_through_saturation_find_every_planted_circuit(name, seed, corruption, settings):
    graph, truth = asked(name, seed, corruption, **settings)
    assert auroc(graph, truth) >= 0.99
    assert circuit(graph, len(truth)) == truth


@pytest.mark.slow
@pytest.mark.parametrize("name", planted.names())
def test_plain_eap_misses_the_saturated_edge_alone(name):
    graph, truth = asked(name, 0, "query", method="eap")
    strongest = graph.top(len(truth)).frame
    missed = truth - set(zip(strongest["source"], strongest["destination"], strict=True))
    layer, head = planted.build(name).saturated
    assert {destination for _, destination in missed} == {f"a{layer}.h{head}<q>"}
    # And what writes there is then cut off: nothing leads into it any more.
    assert (f"a{layer}.h{head}", "logits") not in circuit(graph, len(truth))
