"""Circuits on a page: their edges in order, what goes with which graph, and what is shown once alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuitkit.circuits import Graph
from circuitkit.report import read
from circuitkit.report.section import Section
from circuitkit.report.sections import circuit_data
from circuitkit.report.sections.circuit_data import CircuitData, Named, orders_of
from report.circuit_folders import PLAIN, SHARED, compared, curve, found, graph


def data_of(one: Graph) -> tuple[CircuitData, list[str]]:
    return circuit_data.circuit_data("a circuit", [Named("a model", one)])


def sections(folder: Path) -> list[Section]:
    return list(read(folder, progress=False).sections)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 50), st.booleans(), st.sampled_from([PLAIN, SHARED]), st.data())
def test_the_first_edges_of_an_order_are_the_strongest(seed: int, ties: bool, layout, data) -> None:
    one = graph(layout, seed, ties=ties)
    n = data.draw(st.integers(0, layout.n_edges))
    for by, order in orders_of(one).items():
        members = torch.zeros(one.members.numel(), dtype=torch.bool)
        members[torch.from_numpy(order[:n])] = True
        assert members.reshape(one.members.shape).equal(one.top(n, by).members)


@pytest.mark.parametrize("by", ["absolute", "signed"])
def test_the_files_own_circuit_has_its_place_among_the_strongest(by: str) -> None:
    scored = graph(SHARED, 4)
    circuit = scored.top(50, by).prune()
    own = data_of(circuit)[0]["graphs"][0]["own"]
    assert own is not None and own["size"] == circuit.size
    assert scored.top(own["n"][by], by).prune().members.equal(circuit.members)
    # One that no number of strongest edges makes has none, and one that was not cut is none.
    other = scored.with_members(scored.members & torch.rand(scored.members.shape).lt(0.5))
    assert data_of(other)[0]["graphs"][0]["own"]["n"] == {}
    assert data_of(scored)[0]["graphs"][0]["own"] is None


def test_edges_without_scores_are_not_ranked() -> None:
    circuit = graph(seed=5).top(10)
    alone = replace(circuit, scores=circuit.scores * circuit.members, per_example=None)
    assert set(orders_of(alone)["absolute"].tolist()) == set(circuit.members.flatten().nonzero().flatten().tolist())


def test_what_signs_say_is_told_and_magnitudes_have_none() -> None:
    one = graph()
    assert data_of(one)[0]["graphs"][0]["sign"] == {
        "helps": 1,
        "above": "helps: corrupting it lowers the logit difference",
        "below": "hurts: corrupting it raises the logit difference",
    }
    unknown = replace(one, convention=replace(one.convention, positive="unknown"))
    assert data_of(unknown)[0]["graphs"][0]["sign"]["helps"] == 0
    magnitudes = replace(one, convention=replace(one.convention, examples="mean-absolute"))
    told = data_of(magnitudes)[0]["graphs"][0]
    assert told["sign"] is None and list(told["ranked"]) == ["absolute"]


def test_large_graphs_keep_their_strongest_edges_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circuit_data, "MOST_RANKED", 9)
    circuit = graph().top(12)
    data, notes = data_of(circuit)
    assert f"Of a model's {PLAIN.n_edges} edges the 9 strongest by magnitude are in the page" in notes[0]
    assert "Of the 12 edges of a model's circuit the 9 strongest are kept." in notes
    strongest = circuit.scores.abs()[circuit.top(9).members].min()
    kept = [data["graphs"][0]["scores"][edge] for edge in data["graphs"][0]["ranked"]["absolute"]]
    assert len(kept) == 9 and min(abs(float(score)) for score in kept) == pytest.approx(float(strongest))
    own = data["graphs"][0]["own"]
    assert own is not None and own["size"] == 12 and len(own["edges"]) == 9


def test_a_found_circuit_has_its_curve_its_value_and_its_stability_beside_it(tmp_path: Path) -> None:
    circuit = found(tmp_path, graph())
    first, heads = sections(tmp_path)
    assert first.view == "circuit" and heads.view == "heads" and first.data is not None
    assert len(first.data["curves"]) == len(first.data["points"]) == 1
    (of_graph,) = first.data["graphs"]
    assert of_graph["stability"]["verdict"] in ("good", "fair", "poor") and of_graph["by"] == "absolute"
    assert first.table is not None and len(first.table) == circuit.size and first.table["frequency"].notna().all()
    assert any("keeps 70 %" in sentence for sentence in first.says)
    assert any(sentence.startswith("Stability") for sentence in first.says)
    assert (
        "Random circuits of at least as many edges keep 5 % on average (as much or more by chance: p 0.048)."
        in first.says
    )
    assert heads.data is not None
    assert heads.data["marks"][0]["heads"] == [list(head) for head in circuit.heads]


def test_the_curve_of_another_graph_is_not_put_beside_it(tmp_path: Path) -> None:
    circuit = graph(SHARED).top(40).prune()
    circuit.save(tmp_path)
    curve(graph(PLAIN)).save(tmp_path)
    first, _, alone = sections(tmp_path)
    assert first.data is not None and first.data["curves"] == []
    assert any("`circuitkit circuit evaluate" in note for note in first.notes)
    assert any("How stable this circuit is was not saved" in note for note in first.notes)
    assert alone.data is not None and alone.data["graphs"] == [] and len(alone.data["curves"]) == 1


def test_circuits_that_are_compared_are_shown_once_and_overlaid(tmp_path: Path) -> None:
    base, post = compared(tmp_path, checkpoints=True)
    shown = sections(tmp_path)
    overlay, heads, over_time, *others = shown
    assert overlay.data is not None and [each["name"] for each in overlay.data["graphs"]] == ["base", "post"]
    assert overlay.data["graphs"][1]["own"]["size"] == post.size
    assert heads.data is not None
    sets = {mark["name"]: {tuple(head) for head in mark["heads"]} for mark in heads.data["marks"]}
    assert sets["emergent"] == set(post.heads) - set(base.heads)
    assert sets["lost"] == set(base.heads) - set(post.heads)
    assert sets["retained"] == set(base.heads) & set(post.heads)
    assert any("noise alone makes emerge" in sentence for sentence in heads.says)
    assert over_time.view == "heads" and "2 checkpoints" in over_time.says[0]
    assert [section.title for section in others] == ["Cohorts of heads", "Survival of heads"]


def test_two_folders_side_by_side_are_overlaid(tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("two", 2)):
        (tmp_path / name).mkdir()
        graph(seed=seed).top(40).prune().save(tmp_path / name)
    page = read(tmp_path / "one", beside=tmp_path / "two", progress=False)
    overlaid = page.sections[0]
    assert overlaid.title == "Circuits of one and two, overlaid" and overlaid.data is not None
    assert [each["name"] for each in overlaid.data["graphs"]] == ["one", "two"]
    # Each is shown by itself too, since its heads and its stability are its own.
    assert sum(section.view == "circuit" for section in page.sections) == 3
