"""Circuits on a page: their edges in order, what goes with which graph, and what is shown once alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuitkit.circuits import GenerationEffects, Graph, cohorts, emergent_heads
from circuitkit.circuits.comparing.generation_runs import GenerationRun
from circuitkit.report import read
from circuitkit.report.embedding import as_json
from circuitkit.report.section import Section
from circuitkit.report.sections import circuit_data
from circuitkit.report.sections.circuit_data import CircuitData, Named, orders_of
from report.circuit_folders import PLAIN, SHARED, WIDER, compared, curve, found, graph


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
    (said,) = [note for note in notes if "and the slider ends there" in note]
    assert f"Of a model's {PLAIN.n_edges} edges the 9 strongest by magnitude and by helpfulness are in" in said
    strongest = circuit.scores.abs()[circuit.top(9).members].min()
    kept = [data["graphs"][0]["scores"][edge] for edge in data["graphs"][0]["ranked"]["absolute"]]
    assert len(kept) == 9 and min(abs(float(score)) for score in kept) == pytest.approx(float(strongest))
    own = data["graphs"][0]["own"]
    assert own is not None and own["size"] == 12 and 9 <= len(own["edges"]) < 12
    assert f"Of the 12 edges of a model's circuit {len(own['edges'])}, the strongest among them, are kept." in notes
    # Nodes tell of the whole circuit, whichever of its edges are in the page.
    told = circuit.complexity.set_index("node").loc[data["nodes"]["names"]]
    assert own["degrees"] == {way: told[f"{way}_degree"].tolist() for way in ("in", "out")}


def test_an_edge_of_two_large_circuits_is_told_as_one_of_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circuit_data, "MOST_RANKED", 9)
    graphs = [graph(seed=seed).top(25) for seed in (0, 1)]
    data, _ = circuit_data.circuit_data("two", [Named(str(n), each) for n, each in enumerate(graphs)])
    n = len(PLAIN.destinations)
    places = [source * n + to for source, to in zip(data["source"], data["destination"], strict=True)]
    for each, told in zip(graphs, data["graphs"], strict=True):
        here = [at for at, place in enumerate(places) if bool(each.members.flatten()[place])]
        assert told["own"] is not None and sorted(told["own"]["edges"]) == here
        strengths = [abs(float(told["scores"][edge])) for edge in told["own"]["edges"]]
        assert strengths == sorted(strengths, reverse=True)


def test_each_circuit_of_one_model_has_its_own_curve_and_cards_of_one_title_stay_apart(tmp_path: Path) -> None:
    for seed, name in enumerate(("a_b", "a b")):
        one = graph(seed=seed).top(20 + seed)
        one.save(tmp_path / f"{name}.safetensors")
        curve(one, ("absolute", "signed")[seed]).save(tmp_path / f"{name}_curve.safetensors")
    (card,) = sections(tmp_path)
    assert card.data is not None and [each["name"] for each in card.data["choices"]] == [
        "a b.safetensors",
        "a_b.safetensors",
    ]
    curves = [each["data"]["curves"] for each in card.data["choices"]]
    assert [[each["by"] for each in own] for own in curves] == [["signed"], ["absolute"]]


def test_what_circuits_differ_in_is_told_of_each_and_no_table_crowds_out_another(tmp_path: Path) -> None:
    first = graph(WIDER)
    other = replace(graph(WIDER, 1), convention=replace(first.convention, steps=7))
    for name, one in (("one", first), ("two", other)):
        one.save(tmp_path / f"{name}.safetensors")
    (card,) = sections(tmp_path)
    assert card.data is not None and card.table is not None
    captions = [each["caption"] for each in card.data["choices"]]
    assert captions == [f"{each.convention}." for each in (first, other)]
    assert not any(caption in card.caption for caption in captions) and "Layers are rows" in card.caption
    n = WIDER.n_edges
    assert n > 100 and card.table["circuit"].value_counts().to_dict() == {"One": 100, "Two": 100}
    for name in ("One", "Two"):
        told = f"{name}: The first 100 of {n} rows are shown; all are in {name.lower()}.safetensors (.frame)."
        assert told in card.notes
    assert not any("200" in note for note in card.notes)


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
    assert any("'circuitkit circuit evaluate" in note for note in first.notes)
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


@pytest.mark.parametrize("model", ["other", "base"], ids=["models differ", "one model"])
def test_curves_stand_beside_the_circuit_that_they_are_of(tmp_path: Path, model: str) -> None:
    graphs = [graph(WIDER, seed, model=name).top(60).prune() for seed, name in ((2, "base"), (3, model))]
    emergent_heads(*graphs, names=("base", "post"), resamples=0).save(tmp_path)
    for place, one in enumerate(graphs):
        one.save(tmp_path / f"{place}_graph.safetensors")
        curve(one, ("absolute", "signed")[place]).save(tmp_path / f"{place}_graph_curve.safetensors")
    overlay, *others = sections(tmp_path)
    assert overlay.data is not None and not any(section.view == "circuit" for section in others)
    for place, (told, one) in enumerate(zip(overlay.data["curves"], graphs, strict=True)):
        measured = curve(one, ("absolute", "signed")[place])
        assert (told["graph"], told["by"], told["sizes"]) == (place, measured.settings["by"], list(measured.sizes))
        expected = measured.frame.query("circuit == 'found'")["mean_of_ratios"]
        assert told["found"]["mean of ratios"]["value"].tolist() == expected.tolist()


def test_a_studys_comparisons_are_one_card_with_a_choice(tmp_path: Path) -> None:
    """A page of as many cards as results would be a wall; graphs that are compared are not shown again, cut or not."""
    for seed in (2, 3):
        base, post = (graph(WIDER, seed + 10 * place, model=f"model {place}") for place in (0, 1))
        name = f"recipe {seed}.safetensors"
        cut = [each.top(60).prune() for each in (base, post)]
        emergent_heads(*cut, names=("base", "post"), resamples=0).save(tmp_path / "changes" / name)
        cohorts({100: cut[0], 200: cut[1]}, cut[0]).save(tmp_path / "cohorts" / name)
        for place, each in enumerate((base, post)):
            each.save(tmp_path / "graphs" / f"{seed}, {place}.safetensors")
        (tmp_path / f"turnover, recipe {seed}.csv").write_text("a,b\n1,2\n")
    shown = {section.title: section for section in sections(tmp_path)}
    folded = ["Turnover, recipe 2", "Turnover, recipe 3"]
    lost = "Heads that emerged, stayed and were lost"
    assert list(shown) == [
        "Circuits before and after training, overlaid",
        lost,
        "Heads over the training",
        "Cohorts of heads",
        "Survival of heads",
        *folded,
    ]
    choice = shown[lost].data
    assert choice is not None and choice["label"] == "Comparison"
    assert [each["name"] for each in choice["choices"]] == ["Recipe 2", "Recipe 3"]
    assert len({as_json(each["data"]) for each in choice["choices"]}) == 2
    table = shown[lost].table
    assert table is not None and table.groupby("comparison").size().tolist() == [9, 9]
    assert sum(line.startswith("Recipe 3: Emergent") for line in shown[lost].says) == 1


def test_sets_of_heads_of_a_study_are_one_result_corrected_over_all(tmp_path: Path) -> None:
    """A file a set holds few rows, and p-values that were corrected over these alone would be too small."""

    def run(name: str, draw: int, outcomes: str) -> GenerationRun:
        n = len(outcomes)
        said = tuple("right" if each == "1" else "wrong" for each in outcomes)
        way = "" if name == "intact" else "zero"
        heads = () if name == "intact" else ((0, max(draw, 0)),)
        return GenerationRun(name, way, draw, heads, said, np.full(n, np.nan), np.full(n, 4), np.zeros(n, bool))

    intact = run("intact", -1, "11111110")
    each = {
        name: GenerationEffects(
            "a model",
            "a task",
            "exact",
            tuple(map(str, range(8))),
            {"hops": (1, 1, 1, 1, 2, 2, 2, 2)},
            1,
            intact,
            (run(name, -1, own), run(name, 0, "11111100")),
        )
        for name, own in (("r: lost", "00000001"), ("r: emergent", "11000000"))
    }
    for name, one in each.items():
        one.save(tmp_path / "effects" / f"post, {name.replace(': ', ', ')}.json")
    (tmp_path / "effects, post.csv").write_text("set,effect\nr,1\n")
    first, failures = sections(tmp_path)
    whole = replace(each["r: lost"], runs=(*each["r: emergent"].runs, *each["r: lost"].runs))
    pd.testing.assert_frame_equal(first.table, whole.frame)
    assert first.table["p_corrected"].min() > each["r: lost"].frame["p_corrected"].min()
    assert first.title == "Heads changed while a model writes" and failures.table is not None


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
