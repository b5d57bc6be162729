"""Emergent heads: the one that was planted, none between twins, noise told as such; files and bad input."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import circuitkit as ck
from circuitkit.circuits import CircuitError, Convention, Graph, HeadChanges, Layout, attribute, effect, emergent_heads
from circuitkit.circuits.comparing.recutting import rule_of
from circuitkit.model import planted
from circuits.comparing.twins import pairs_of, with_noise
from circuits.graphs.random_graphs import CONVENTION, layouts

LAYOUT = Layout((4, 4), (2, 4), (False, True))


def graph_of(signal: dict[tuple[str, str], float], noise: float = 0.0, n: int = 12, seed: int = 0) -> Graph:
    """A graph whose examples score these edges so, amid noise."""
    generator = torch.Generator().manual_seed(seed)
    each = noise * torch.randn(n, *LAYOUT.reach.shape, generator=generator) * LAYOUT.reach
    for (source, destination), score in signal.items():
        each[:, LAYOUT.source(source), LAYOUT.destination(destination)] += score
    return Graph(LAYOUT, each.mean(0), LAYOUT.reach, CONVENTION, per_example=each)


def way(head: str, score: float) -> dict[tuple[str, str], float]:
    return {("input", f"{head}<q>"): score, (head, "logits"): score}


def emerged(base: Graph, post: Graph, n: int = 4, **settings: object) -> HeadChanges:
    return emergent_heads(base, post, n, progress=False, **settings)


@pytest.mark.parametrize(("name", "seed"), [("planted-induction-llama", 0), ("planted-induction-gpt2", 2)])
def test_a_planted_head_that_the_base_lacks_is_the_one_emergent_head_for_sure(name, seed):
    plant = planted.build(name, seed)
    head = plant.circuit["induction"]
    pairs = pairs_of(plant, 12, seed)
    base, post = (
        attribute(model, pairs, progress=False)
        for model in (with_noise(plant, head, seed), ck.Model(plant.model, plant.tokenizer))
    )
    found = emerged(base, post, len(plant.edges()), resamples=20)
    assert found.emergent == found.sure == [head]
    assert not set(plant.heads) & set(found.lost)
    twins = emerged(post, post, 40, resamples=10)
    assert not twins.emergent and not twins.lost and not bool(twins.support.emergent.any())
    assert found.effects.frame.iloc[0][["layer", "head"]].tolist() in [list(head), list(plant.backup)]


def test_what_noise_makes_emerge_is_told():
    base = graph_of(way("a0.h0", 5.0), noise=0.5)
    post = graph_of({**way("a0.h0", 5.0), **way("a0.h1", 0.2)}, noise=0.5, seed=1)
    found = emerged(base, post, 8, resamples=40, prune=False)
    assert found.emergent and not found.sure
    assert found.support.noise.double().mean() > 1
    assert found.support.p(len(found.emergent)) > 0.05
    told = str(found)
    assert "of resamples)" in told and "noise alone makes emerge" in told


def test_the_table_holds_each_head_once_with_shares_that_add_up():
    found = emerged(graph_of(way("a0.h0", 5.0)), graph_of(way("a1.h3", 5.0)), 2, resamples=4)
    assert (found.emergent, found.lost, found.retained) == ([(1, 3)], [(0, 0)], [])
    assert len(found.frame) == 8 and found.frame["importance_post"].sum() == pytest.approx(1)
    assert found.frame.iloc[0][["layer", "head", "change"]].tolist() == [1, 3, "emergent"]
    assert found.layers["emergent"].tolist() == [0, 1] and found.counts["sure"] == 1
    assert found.effects.values[1, 3] == pytest.approx(1, abs=1e-5)


def test_uncut_graphs_of_unequal_size_and_without_examples_are_told():
    graph = graph_of(way("a0.h0", 5.0), noise=0.1)
    assert "nothing can emerge" in str(emergent_heads(graph, graph.top(4), progress=False))
    assert "differ in size" in str(emergent_heads(graph.top(8), graph.top(30), resamples=0))
    bare = Graph(LAYOUT, graph.scores, LAYOUT.reach, CONVENTION)
    assert "keep_examples=True" in str(emerged(bare, bare))
    pieced = graph.top(4) | graph.complement().with_members(LAYOUT.reach & (torch.rand(LAYOUT.reach.shape) < 0.3))
    assert "no rule is known" in str(emergent_heads(pieced, graph.top(4), progress=False))


def test_graphs_of_other_architectures_and_conventions_are_refused():
    graph = graph_of(way("a0.h0", 1.0))
    other = Layout((4, 4), (4, 4), (False, True))
    with pytest.raises(CircuitError, match="another architecture"):
        emerged(graph, Graph(other, torch.zeros(other.reach.shape), other.reach, CONVENTION))
    fewer = Graph(LAYOUT, graph.scores, LAYOUT.reach, Convention("eap-ig", "kl", steps=5))
    with pytest.raises(CircuitError, match="metric is 'logit_difference' in base and 'kl' in post-trained"):
        emerged(graph, fewer)
    with pytest.raises(CircuitError, match="resamples"):
        emerged(graph, graph, resamples=1)


def test_a_comparison_loads_as_it_was_saved(tmp_path):
    found = emerged(graph_of(way("a0.h0", 5.0), 0.3), graph_of(way("a1.h3", 5.0), 0.3, seed=1), resamples=6)
    loaded = HeadChanges.load(found.save(tmp_path))
    assert str(loaded) == str(found)
    assert loaded.frame.equals(found.frame)
    assert len(found.plot().patches) and len(found.plot("circuits").collections)


@given(layouts, st.integers(0, 1000), st.integers(1, 20), st.booleans(), st.sampled_from(["top", "greedy"]))
@settings(max_examples=30, deadline=None)
def test_the_rule_that_cut_a_circuit_is_found_again(layout, seed, n, prune, select):
    scores = torch.randn(layout.reach.shape, generator=torch.Generator().manual_seed(seed)) * layout.reach
    graph = Graph(layout, scores, layout.reach, CONVENTION)
    n = min(n, layout.n_edges)
    circuit = graph.top(n) if select == "top" else graph.greedy(n)
    circuit = circuit.prune() if prune else circuit
    rule = rule_of(circuit)
    if circuit.size:
        assert rule is not None and torch.equal(rule.of(graph).members, circuit.members)
    else:
        assert rule is None


def test_the_effect_is_its_formula_over_examples_and_checkpoints():
    base, post = graph_of(way("a0.h0", 1.0), 0.5), graph_of(way("a1.h1", 1.0), 0.5, seed=3)
    rows = slice(*LAYOUT.heads_at(1).indices(99)[:2])
    shares = []
    for graph in (base, post):
        each = graph.per_example.double().abs().sum((0, 2))
        heads = [row for layer in range(2) for row in range(*LAYOUT.heads_at(layer).indices(99)[:2])]
        shares.append(each / each[heads].sum())
    expected = (shares[1] - shares[0]) / (shares[1] + shares[0] + 1e-6)
    found = effect(base, post, draws=50)
    assert found.of == "examples"
    torch.testing.assert_close(found.values[1], expected[rows], rtol=1e-6, atol=1e-9)
    assert bool(((found.low < found.values) & (found.values < found.high)).all())
    several = effect(base, {100: base, 200: post})
    torch.testing.assert_close(several.values[1], expected[rows] / 2, rtol=1e-6, atol=1e-9)
    with pytest.raises(CircuitError, match="checkpoint"):
        effect(base, [])
    assert np.isfinite(found.frame["effect"]).all()
    with pytest.raises(CircuitError, match="keep_examples=True"):
        effect(base, Graph(LAYOUT, post.scores, LAYOUT.reach, CONVENTION), draws=50)
    with pytest.raises(CircuitError, match="12 examples and a graph after it of 8"):
        effect(base, graph_of(way("a1.h1", 1.0), 0.5, n=8), draws=50)
