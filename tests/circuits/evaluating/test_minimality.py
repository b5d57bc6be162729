"""Minimality against its definition, and planted circuits with edges and nodes that do nothing."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch

from circuitkit.circuits import CircuitError, Layout, Minimality, minimality, run_circuits
from circuitkit.circuits.evaluating.random_ways import random_way, random_way_beside
from circuits.evaluating.planted_circuits import planted_circuit, planted_pairs

NAME = "planted-induction-gpt2"


@pytest.fixture(scope="module")
def inflated():
    """A planted circuit with as many edges more that do nothing, and what minimality finds of it."""
    model, graph = planted_circuit(NAME)
    rng = np.random.default_rng(1)
    members = graph.members.clone()
    for row, column in random_way_beside(graph.layout, graph.members, rng):
        members[row, column] = True
    more = graph.with_members(members)
    assert more.size > graph.size
    return graph, more, minimality(model, more, planted_pairs(NAME, 2), random=52, progress=False)


def test_the_planted_edges_are_needed_and_the_others_are_not(inflated) -> None:
    graph, more, found = inflated
    names, planted = zip(*((edge, bool(graph.edge(*edge.split("->")).in_circuit)) for edge in found.parts), strict=True)
    assert len(names) == more.size
    assert found.needed.tolist() == list(planted)
    assert set(found.unneeded) == {name for name, of_circuit in zip(names, planted, strict=True) if not of_circuit}
    frame = found.frame
    assert frame["contribution"].head(graph.size).min() > 1.0
    assert (frame["p"] >= 0.9**52 * 0.999).all()
    assert f"{graph.size} do more for logit_difference than 90 % of random ones" in str(found)


def test_contributions_are_what_the_circuit_loses(inflated) -> None:
    _, more, found = inflated
    model, _ = planted_circuit(NAME)
    left = []
    for edge in found.parts:
        members = more.members.clone()
        source, destination = edge.split("->")
        members[more.layout.source(source), more.layout.destination(destination)] = False
        left.append(more.with_members(members))
    whole, *without = run_circuits(model, [more, *left], planted_pairs(NAME, 2), progress=False)
    assert torch.allclose(found.contributions.float(), whole - torch.stack(without), atol=1e-5)
    assert torch.allclose(found.whole.float(), whole, atol=1e-5)


def test_of_a_divergence_a_part_that_helps_is_positive() -> None:
    model, graph = planted_circuit(NAME)
    found = minimality(model, graph, planted_pairs(NAME, 2), "kl", of="nodes", random=0, progress=False)
    assert set(found.parts) == {node for node in graph.nodes if node not in ("input", "logits")}
    assert (found.frame["contribution"] > 0.5).all()
    assert found.frame["p"].isna().all()
    assert not found.needed.any()
    assert "nothing can be said" in str(found)


def test_a_sample_of_the_parts_and_their_file(tmp_path, inflated) -> None:
    model, _ = planted_circuit(NAME)
    _, more, whole = inflated
    found = minimality(model, more, planted_pairs(NAME, 2), random=3, most=2, seed=5, progress=False)
    assert len(found.parts) == 2
    assert found.untested == more.size - 2
    for each in (found, whole):
        again = Minimality.load(each.save(tmp_path / "found.safetensors"))
        assert str(again) == str(each)
        assert again.frame.equals(each.frame)


def test_random_parts_too_few_to_tell_are_told(inflated) -> None:
    _, more, found = inflated
    assert found.beyond**found.fewest * len(found.parts) < 0.05 <= found.beyond ** (found.fewest - 1) * len(found.parts)
    few = dataclasses.replace(found, random=found.random[: found.fewest - 1])
    assert not few.needed.any() and f"nothing can be said: {found.fewest - 1} random edges are too few" in str(few)
    assert "too few random ones" in few.plot().get_title()
    assert f"{more.size - len(found.unneeded)} of {more.size} surely do more" in found.plot(most=3).get_title()


def test_random_ways_lead_from_the_input_to_the_logits() -> None:
    layout = Layout((4, 2), (2, 1), (False, True))
    rng = np.random.default_rng(0)
    for _ in range(30):
        way = random_way(layout, rng)
        assert (way[0][0], way[-1][1]) == (0, layout.logits_at)
        assert all(bool(layout.reach[edge]) for edge in way)
        assert all(bool(layout.reads[after[0], before[1]]) for before, after in pairwise(way))


def test_what_has_no_minimality_is_refused() -> None:
    model, graph = planted_circuit(NAME)
    pairs = planted_pairs(NAME, 2)
    with pytest.raises(CircuitError, match="no edges, so there is nothing to take out"):
        minimality(model, graph.empty(), pairs, progress=False)
    with pytest.raises(CircuitError, match="of 'edges' or of 'nodes', not of 'heads'"):
        minimality(model, graph, pairs, of="heads", progress=False)
    with pytest.raises(CircuitError, match="are counts"):
        minimality(model, graph, pairs, most=0, progress=False)
    with pytest.raises(CircuitError, match="beyond is a share"):
        minimality(model, graph, pairs, beyond=1.0, progress=False)
