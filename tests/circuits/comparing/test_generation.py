"""Heads changed while a model writes: against interventions by hand, planted effects, files, bad input."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import circuitkit as ck
from circuitkit import plots
from circuitkit.circuits import CircuitError, GenerationEffects, classify_failures, generation_effects
from circuitkit.circuits.comparing.difficulty import by_own_accuracy
from circuitkit.circuits.comparing.generation_runs import GenerationRun
from circuitkit.circuits.comparing.margins import measured_beside, rank_p
from circuitkit.evaluation import compare
from circuitkit.model.site import SiteError

SET = [(1, 2), (1, 3), (0, 1)]


@pytest.fixture(scope="module")
def model() -> ck.Model:
    return ck.load("deductor-130k")


@pytest.fixture(scope="module")
def task() -> ck.tasks.Task:
    return ck.tasks.prontoqa.task("implication_elimination", [1, 3], 0, 4, seed=7)


@pytest.fixture(scope="module")
def found(model, task, tmp_path_factory) -> GenerationEffects:
    out = tmp_path_factory.mktemp("out")
    return generation_effects(
        model, task, {"some": SET}, ways=["zero", 0.0], controls=1, max_new_tokens=24, out=out, progress=False
    )


# Against interventions by hand


def test_ablated_answers_are_those_under_the_interventions_themselves(model, task, found):
    by_hand = [ck.zero(ck.Site("z", layer=layer, head=head)) for layer, head in SET]
    own = next(run for run in found.runs if (run.way, run.draw) == ("zero", -1))
    before, after = (ck.evaluate(model, task, changed, max_new_tokens=24, progress=False) for changed in ([], by_hand))
    assert own.outcomes == tuple(classify_failures(after)["outcome"])
    assert found.intact.outcomes == tuple(classify_failures(before)["outcome"])
    row, held = found.frame.iloc[0], compare(before, after)
    assert (row["effect"], row["p"]) == (pytest.approx(held.difference), pytest.approx(held.p))


def test_a_factor_of_zero_is_ablation(found):
    zero, scaled = ([run for run in found.runs if run.way == way] for way in ("zero", "x0"))
    assert [run.outcomes for run in zero] == [run.outcomes for run in scaled] and len(zero) == 2


def test_random_sets_have_as_many_heads_in_each_layer_and_none_of_the_set(found):
    for run in found.runs:
        assert sorted(layer for layer, _ in run.heads) == [0, 1, 1]
        assert run.draw == -1 or not set(run.heads) & set(SET)


def test_a_mean_is_over_all_tokens_of_the_reference(model, task):
    reference = ["Every wumpus is a dumpus.", "Fae is a wumpus. Fae is loud."]
    kept = model.run(reference, capture=["z[layer=1]"], logits_at=-1).cache
    values = kept["z[layer=1]"][kept.positions >= 0].mean(0)
    by_hand = [ck.mean("z[layer=1, head=2]", values[2])]
    few = task.first(2)
    own = generation_effects(
        model, few, {"one": [(1, 2)]}, ways=["mean"], controls=0, reference=reference, progress=False
    )
    expected = ck.evaluate(model, few, by_hand, progress=False)
    assert own.runs[0].n_tokens.tolist() == [response.n_tokens for response in expected.responses]
    assert own.runs[0].outcomes == tuple(classify_failures(expected)["outcome"])


def test_the_same_call_goes_on_where_it_was(model, task, found, tmp_path, monkeypatch):
    asked = {"ways": [0.5], "controls": 0, "max_new_tokens": 8, "out": tmp_path, "progress": False}
    first = generation_effects(model, task.first(2), {"some": SET}, **asked)

    def never(*_, **__):
        raise AssertionError("what is there was written anew")

    monkeypatch.setattr(model.hf, "forward", never)
    again = generation_effects(model, task.first(2), {"some": SET}, **asked)
    assert again.runs[0].outcomes == first.runs[0].outcomes


# Planted effects


def planted(changed: dict[int, np.ndarray], intact: np.ndarray, answers: int = 1) -> GenerationEffects:
    """Effects of one set: `changed` holds the verdicts of its draws, the set's own at -1."""

    def run(name: str, draw: int, right: np.ndarray) -> GenerationRun:
        n = len(right)
        outcomes = tuple("right" if each else "wrong step" for each in right)
        return GenerationRun(name, "zero", draw, ((0, 0),), outcomes, np.full(n, np.nan), np.ones(n, int), right < 0)

    items = len(intact) // answers
    hops = tuple(1 + at * 2 // items for at in range(items))
    runs = tuple(run("set", draw, right) for draw, right in changed.items())
    keys = tuple(map(str, range(items)))
    return GenerationEffects("m", "t", "j", keys, {"hops": hops}, answers, run("intact", -1, intact), runs)


def test_a_gain_on_hard_questions_and_a_loss_on_easy_ones_are_both_seen():
    intact = np.repeat([True, False], 20)
    own, other = intact.copy(), intact.copy()
    own[:12], own[20:33] = False, True
    found = planted({-1: own, 0: other, 1: other, 2: other}, intact)
    by = found.by("hops").set_index("level")
    assert (by.loc["1", "effect"], by.loc["2", "effect"]) == (-0.6, 0.65)
    assert (by["p_corrected"] < 0.01).all()
    row = found.trade("hops").iloc[0]
    assert row["trades"] and row["difference"] == pytest.approx(1.25) and row["low"] > 0.8 and row["p"] < 0.001
    assert row["control_difference"] == 0 and row["p_controls"] == 0.5
    assert found.frame.iloc[0]["effect"] == pytest.approx(0.025)
    wrong = found.failures().set_index("outcome").loc["wrong step"]
    assert wrong["effect"] == pytest.approx(-0.025)


def test_a_change_that_does_nothing_gains_nothing_on_hard_questions_for_being_hard():
    # Answers are luck around each question's own rate: without cross-fitting the hard ones would seem to be gained.
    rng = np.random.default_rng(0)
    rates = rng.uniform(0.2, 0.8, size=400)
    intact, changed = (rng.random((400, 4)) < rates[:, None] for _ in range(2))
    found = planted({-1: changed.ravel()}, intact.ravel(), answers=4)
    by = found.by("own accuracy").set_index("level")
    assert list(by.index) == ["easy", "middle", "hard"]
    assert by["effect"].abs().max() < 0.05 and (by["p"] > 0.01).all()
    hard = intact.mean(1) < 1 / 3
    assert changed[hard].mean() - intact[hard].mean() > 0.15


def test_no_answer_tells_the_level_that_it_is_compared_at():
    right = np.random.default_rng(0).random((50, 5)) < 0.5
    for placed in by_own_accuracy(right):
        for item, compared in zip(placed.items, placed.answers, strict=True):
            told = right[item][~compared].mean()
            assert {"easy": told > 2 / 3, "middle": 1 / 3 <= told <= 2 / 3, "hard": told < 1 / 3}[placed.level]


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.integers(0, 5))
def test_tables_hold_for_any_verdicts(seed, controls):
    rng = np.random.default_rng(seed)
    before, after = rng.random(12) < 0.5, rng.random(12) < 0.5
    beside = rng.random((controls, 12)) < 0.5
    row = measured_beside(before.astype(float), after.astype(float), beside.astype(float), np.arange(12))
    assert row["effect"] == pytest.approx(after.mean() - before.mean())
    assert row["low"] - 1e-9 <= row["effect"] <= row["high"] + 1e-9
    if controls:
        assert row["margin"] == pytest.approx(after.mean() - beside.mean())
        assert row["margin_low"] - 0.3 <= row["margin"] <= row["margin_high"] + 0.3
        assert row["p_controls"] >= min(1, 2 / (1 + controls))
    else:
        assert np.isnan(row["p_controls"])


def test_a_rank_among_alike_sets_is_uniform():
    values = np.arange(20.0)
    p = [rank_p(value, np.delete(values, at)) for at, value in enumerate(values)]
    assert np.mean(np.array(p) <= 0.1) == 0.1 and np.mean(np.array(p) <= 0.5) == 0.5


# Files, figures, bad input


def test_effects_load_again_with_the_same_tables(found, tmp_path):
    again = GenerationEffects.load(found.save(tmp_path))
    assert again.frame.equals(found.frame) and again.by("hops").equals(found.by("hops"))
    assert again.responses.equals(found.responses) and again.provenance == found.provenance


@pytest.mark.parametrize("of", ["effects", "difficulty", "failures"])
def test_figures_are_drawn(found, of, tmp_path):
    axes = found.plot(of)
    assert axes.get_title() and plots.save(axes, tmp_path / "it.png").stat().st_size > 0


def test_a_file_that_is_cut_short_or_of_another_kind_is_refused(found, tmp_path):
    path = found.save(tmp_path / "a.json")
    path.write_text(path.read_text()[:-200])
    with pytest.raises(CircuitError, match="cut short or altered"):
        GenerationEffects.load(path)
    with pytest.raises(CircuitError, match="no such file"):
        GenerationEffects.load(tmp_path / "b.json")
    with pytest.raises(CircuitError, match=r"saved as \.json"):
        found.save(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("sets", "ways", "said"),
    [
        ({}, ["zero"], "no sets of heads"),
        ({"none": []}, ["zero"], "'none' has no heads"),
        ({"intact": [(0, 0)]}, ["zero"], "name the set otherwise"),
        ({"a": [(0, 0)]}, ["half"], "not 'half'"),
        ({"a": [(0, 0)]}, [1.0], "no ablation or scaling"),
        ({"a": [(0, 0)]}, [-2.0], "no ablation or scaling"),
    ],
)
def test_bad_sets_and_ways_are_named(model, task, sets, ways, said):
    with pytest.raises(CircuitError, match=said):
        generation_effects(model, task, sets, ways=ways, progress=False)


def test_a_head_that_is_not_there_is_named(model, task):
    with pytest.raises(SiteError, match="9"):
        generation_effects(model, task, {"a": [(0, 9)]}, progress=False)


def test_a_difficulty_that_is_not_there_is_named(found):
    with pytest.raises(CircuitError, match="no group 'size'"):
        found.by("size")
    with pytest.raises(CircuitError, match="two answers of it or more"):
        found.by("own accuracy")
    alone = planted({-1: np.array([True, False])}, np.array([True, True]))
    with pytest.raises(CircuitError, match="nothing tells how hard"):
        GenerationEffects(**{**vars(alone), "groups": {}}).trade()


def test_a_set_of_all_heads_of_its_layers_has_no_controls(model, task):
    every = [(2, head) for head in range(4)]
    one = generation_effects(
        model, task.first(2), {"all": every}, ways=["zero"], controls=3, max_new_tokens=6, progress=False
    )
    assert one.frame["controls"].tolist() == [0] and np.isnan(one.frame["p_controls"]).all()
    assert torch.equal(torch.tensor([len(run.heads) for run in one.runs]), torch.tensor([4]))
