"""Completeness against its definition, the planted circuits, and circuits that lack something."""

import numpy as np
import pytest
import torch

import circuitkit as ck
from circuitkit.circuits import CircuitError, Completeness, completeness, run_circuits
from circuits.evaluating.planted_circuits import planted_circuit, planted_pairs

NAME = "planted-induction-gpt2"


def test_a_planted_circuit_is_complete() -> None:
    model, graph = planted_circuit(NAME)
    found = completeness(model, graph, planted_pairs(NAME), sets=3, greedy=2, progress=False)
    assert found.incompleteness < 0.01 * found.behaviour
    assert found.worst[1] < 0.02 * found.behaviour
    assert found.complement_keeps == pytest.approx(0.0, abs=0.01)
    assert found.how == ("nothing", "random", "random", "random", "greedy", "greedy")
    assert "alone, keep 0 % of the behaviour" in str(found)


def test_a_circuit_that_lacks_one_of_two_ways_is_not() -> None:
    model, graph = planted_circuit(NAME)
    pairs = planted_pairs(NAME)
    # Two heads tell the answer: with one of them alone, the model still has the other once that is gone.
    [first, _] = [node for node in graph.nodes if node.startswith("a2.")]
    members = graph.members.clone()
    members[graph.layout.source(first)] = False
    found = completeness(model, graph.with_members(members), pairs, sets=4, greedy=2, progress=False)
    assert found.worst[1] > 0.2 * abs(found.behaviour)
    assert found.worst[1] >= found.frame["difference"].abs().max() - 1e-6


def test_values_are_those_of_circuit_and_model_without_the_nodes() -> None:
    model, graph = planted_circuit(NAME)
    pairs = planted_pairs(NAME)
    found = completeness(model, graph, pairs, ablation="zero", sets=2, greedy=1, candidates=1, progress=False)
    for at, nodes in enumerate(found.sets):
        rows = [graph.layout.source(node) for node in nodes]
        left = []
        for members in (graph.members.clone(), graph.layout.reach.clone()):
            members[rows] = False
            left.append(graph.with_members(members))
        circuit, whole = run_circuits(model, left, pairs, ablation="zero", progress=False)
        assert torch.allclose(found.circuit[at], circuit, atol=1e-5)
        assert torch.allclose(found.model[at], whole, atol=1e-5)
    assert found.sets[0] == ()
    assert all(found.sets[1:3])


def test_drawn_by_the_seed_and_loaded_again_it_is_the_same(tmp_path) -> None:
    model, graph = planted_circuit(NAME)
    settings = {"sets": 2, "greedy": 1, "seed": 3, "progress": False}
    found = completeness(model, graph, planted_pairs(NAME), **settings)
    again = Completeness.load(found.save(tmp_path / "found.safetensors"))
    assert again.sets == found.sets == completeness(model, graph, planted_pairs(NAME), **settings).sets
    assert str(again) == str(found)
    assert again.frame.equals(found.frame)
    assert np.isfinite(found.frame["low"]).all()


def test_what_has_no_completeness_is_refused() -> None:
    model, graph = planted_circuit(NAME)
    with pytest.raises(CircuitError, match="no head and no MLP"):
        completeness(model, graph.empty(), planted_pairs(NAME), progress=False)
    with pytest.raises(CircuitError, match="are counts; got -1"):
        completeness(model, graph, planted_pairs(NAME), sets=-1, progress=False)
    with pytest.raises(CircuitError, match="another architecture"):
        completeness(ck.load("deductor-5k"), graph, planted_pairs(NAME), progress=False)
