"""The QK fix on edges: its definition by patterns and their gradients, and the planted saturated heads."""

import pytest
import torch

import circuitkit as ck
from circuitkit import Site
from circuitkit.circuits import CircuitError
from circuitkit.circuits.attributing import qk_fix
from circuitkit.model import planted
from circuitkit.spans import Span
from circuits.attributing.hooked_edges import Oracle, built, drawn_pairs, first


def by_patterns(oracle: Oracle, row: int, column: int) -> torch.Tensor:
    """The change of the pattern under an edge's query or key, held against the gradient at the pattern."""
    model, layout = oracle.model, oracle.layout
    layer, kind = int(layout.destinations[column][1]), layout.destinations[column][-2]
    pattern, part = Site("pattern", layer=layer), oracle.parts[layer]
    run = model.run(oracle.clean_tokens, capture=[pattern], logits_at=-1, gradients=True)
    rows = torch.arange(len(run.logits))
    lost = -(run.logits[rows, oracle.pairs.answer] - run.logits[rows, oracle.pairs.distractor])
    gradient = run.gradients(lost)[pattern]
    head = column - {"q": layout.queries_at, "k": layout.keys_at}[kind](layer).start
    changed = part.norm(oracle.clean["stream", layer] + oracle.difference(layout.sources[row]))
    with torch.no_grad():
        value = first(part.qkv[kind](changed))[..., part.columns(kind, head)]
    patched = model.run(oracle.clean_tokens, [ck.replace(Site(kind, layer, head), value)], [pattern]).cache[pattern]
    real = oracle.clean_tokens.mask[:, None, :, None]
    return ((patched - run.cache[pattern].detach()) * gradient * real).sum((1, 2, 3))


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "olmo2", "gpt_neox"])
def test_edges_into_queries_and_keys_equal_the_definition_by_patterns(name):
    pairs = drawn_pairs((7, 5))
    oracle = Oracle(name, pairs)
    layout = oracle.layout
    found = ck.circuits.attribute(oracle.model, pairs, method="eap-qk", progress=False).per_example
    for source, kind, layer, head in [("input", "q", 0, 1), ("a0.h2", "k", 1, 1), ("m1", "q", 2, 3), ("m0", "k", 2, 0)]:
        columns = layout.queries_at(layer) if kind == "q" else layout.keys_at(layer)
        row, column = layout.source(source), columns.start + head
        expected = by_patterns(oracle, row, column)
        assert expected.abs().max() > 1e-3
        torch.testing.assert_close(found[:, row, column], expected, atol=1e-5, rtol=1e-4)


def test_all_other_edges_are_those_of_eap():
    _, model = built("llama")
    pairs, spans = drawn_pairs((6, 5)), {"first": Span.at(2), "second": Span.at(3)}
    found, eap = (
        ck.circuits.attribute(model, pairs, method=method, spans=spans, progress=False) for method in ("eap-qk", "eap")
    )
    layout = found.layout
    fixed = torch.zeros(layout.reach.shape[1], dtype=torch.bool)
    for layer in range(layout.n_layers):
        fixed[layout.queries_at(layer)] = fixed[layout.keys_at(layer)] = True
    torch.testing.assert_close(found.scores[:, ~fixed], eap.scores[:, ~fixed], atol=1e-6, rtol=1e-5)
    assert (found.scores[:, fixed] - eap.scores[:, fixed]).abs().max() > 1e-2
    # Queries' rows of a pattern are apart, so that tokens add up; the input differs at those two alone.
    queries = layout.queries_at(1)
    together = found.by_span["first"] + found.by_span["second"]
    torch.testing.assert_close(together[0, queries], found.scores[0, queries], atol=1e-5, rtol=1e-5)
    keys = layout.keys_at(1)
    assert (together[0, keys] - found.scores[0, keys]).abs().max() > 1e-4


def test_heads_under_one_norm_are_changed_one_at_a_time():
    for name, apart in (("llama", True), ("olmo2", False)):
        _, model = built(name)
        ck.circuits.attribute(model, drawn_pairs((6,)), method="eap-qk", progress=False)
        assert set(qk_fix._apart[model].values()) == {apart}


def test_prompts_of_one_token_tell_nothing_about_heads_under_one_norm():
    hf, whole = built("olmo2")
    model, pairs = ck.Model(hf, whole.tokenizer, name="olmo2"), drawn_pairs((6,))
    ck.circuits.attribute(model, ck.Pairs(["w9"], ["w8"], [7], [6]), method="eap-qk", progress=False)
    found, expected = (
        ck.circuits.attribute(each, pairs, method="eap-qk", progress=False).scores for each in (model, whole)
    )
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


def test_checkpointing_and_small_batches_give_the_same(monkeypatch):
    _, model = built("llama")
    pairs = drawn_pairs((6, 5))
    whole = ck.circuits.attribute(model, pairs, method="eap-qk", progress=False)
    monkeypatch.setattr("circuitkit.circuits.attributing.qk_edges.memory", lambda model, budget: 1)
    again = ck.circuits.attribute(model, pairs, method="eap-qk", batch_size=1, checkpointing=True, progress=False)
    torch.testing.assert_close(again.scores, whole.scores, atol=1e-5, rtol=1e-5)


def test_magnitudes_of_positions_are_refused():
    _, model = built("llama")
    with pytest.raises(CircuitError, match="changes all positions of an edge together"):
        ck.circuits.attribute(model, drawn_pairs((6,)), method="eap-qk", positions="sum-absolute", progress=False)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name != "planted-two-hop-llama")) for name in planted.names()],
)
def test_the_planted_saturated_edge_is_missed_by_eap_and_found_with_the_fix(name):
    planned = planted.build(name)
    model, corruption = ck.Model(planned.model, planned.tokenizer), "subject" if "hop" in name else "query"
    pairs = ck.Pairs(*planned.pairs(2, seed=1, length=14, corruption=corruption))
    truth = planned.edges(corruption)
    layer, head = planned.saturated
    [edge] = [each for each in truth if each[1] == f"a{layer}.h{head}<q>"]
    fixed, eap = (ck.circuits.attribute(model, pairs, method=each, progress=False) for each in ("eap-qk", "eap"))
    some = torch.zeros_like(fixed.members)
    some[fixed.layout.source(edge[0]), fixed.layout.destination(edge[1])] = True
    exact = ck.circuits.attribute(model, pairs, method="exact", edges=some, progress=False).edge(*edge).score
    assert exact > 5
    assert abs(eap.edge(*edge).score) < 0.1 * exact
    assert 0.8 * exact < fixed.edge(*edge).score < 1.2 * exact
    # The primary's softmax is soft: there EAP sees a part, and the fix the whole.
    assert ck.circuits.auroc(fixed, truth) > 0.999
    assert set(zip(*fixed.top(len(truth)).prune().frame[["source", "destination"]].values.T, strict=True)) == truth
