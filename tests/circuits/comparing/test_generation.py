"""Heads changed while a model writes: against interventions by hand, planted effects, files, bad input."""

import copy
import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing

import circuitkit as ck
from circuitkit import plots
from circuitkit.circuits import CircuitError, GenerationEffects, classify_failures, generation_effects
from circuitkit.circuits.comparing.difficulty import by_own_accuracy
from circuitkit.circuits.comparing.generation_runs import GenerationRun
from circuitkit.circuits.comparing.margins import between_levels, measured_beside, rank_p
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


def test_ablation_holds_in_the_prompt_and_at_every_token_that_is_written(model, task, tmp_path):
    few, room = task.first(2), 16
    generation_effects(
        model, few, {"s": SET}, ways=[1.3], controls=0, max_new_tokens=room, out=tmp_path, progress=False
    )
    lines = (tmp_path / "s x1.3 itself" / "responses.jsonl").read_text().splitlines()
    told = {row["key"]: row["text"] for row in map(json.loads, lines)}
    width = model.d_model // model.n_heads(0)

    def scaled(layer):
        def hook(module, args):
            z = args[0].clone()
            for head in (head for at, head in SET if at == layer):
                z[..., head * width : (head + 1) * width] *= 1.3
            return (z,)

        return model.hf.model.layers[layer].self_attn.o_proj.register_forward_pre_hook(hook)

    # By plain hooks and without a cache: all of the sequence anew for every token.
    hooks = [scaled(0), scaled(1)]
    for item in few.items:
        ids = model.tokenizer(few.prompt(item, 0), return_tensors="pt")["input_ids"]
        n = ids.shape[1]
        with torch.no_grad():
            for _ in range(room):
                ids = torch.cat([ids, model.hf(ids, use_cache=False).logits[:, -1:].argmax(-1)], dim=1)
        written = model.tokenizer.decode(ids[0, n:])
        assert told[item.key] and written.startswith(told[item.key].rstrip()[:60])
    for hook in hooks:
        hook.remove()


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


def test_a_mean_is_over_questions_and_answers_as_the_model_read_them(model, task, monkeypatch):
    few = task.first(2)
    alone = ck.Model(model.hf, copy.deepcopy(model.tokenizer), name="chat")
    begins = alone.tokenizer.bos_token
    alone.tokenizer.chat_template = begins + "{% for each in messages %}{{ each['content'] }}{% endfor %}"
    first = ("<s>", alone.tokenizer.bos_token_id)
    alone.tokenizer.backend_tokenizer.post_processor = TemplateProcessing("<s> $A", special_tokens=[first])
    read = []
    run = ck.Model.run

    def seen(self, prompts, *args, **kwargs):
        read.extend(prompts if isinstance(prompts, list) else [])
        return run(self, prompts, *args, **kwargs)

    monkeypatch.setattr(ck.Model, "run", seen)
    generation_effects(alone, few, {"s": SET}, ways=["mean"], controls=0, chat=True, max_new_tokens=4, progress=False)
    rows = [row for row in read if isinstance(row, list)]
    # The template's own beginning of a text, and no second one before it.
    assert len(rows) == 2 and all(row.count(first[1]) == 1 and row[0] == first[1] for row in rows)


def test_the_same_call_goes_on_where_it_was(model, task, found, tmp_path, monkeypatch):
    asked = {"ways": [0.5], "controls": 0, "max_new_tokens": 8, "out": tmp_path, "progress": False}
    first = generation_effects(model, task.first(2), {"some": SET}, **asked)

    def never(*_, **__):
        raise AssertionError("what is there was written anew")

    monkeypatch.setattr(model.hf, "forward", never)
    again = generation_effects(model, task.first(2), {"some": SET}, **asked)
    assert again.runs[0].outcomes == first.runs[0].outcomes


# Planted effects


def planted(changed: dict[int, np.ndarray], intact: np.ndarray, answers: int = 1, way: str = "zero"):
    """Effects of one set: `changed` holds the verdicts of its draws, the set's own at -1."""

    def run(name: str, draw: int, right: np.ndarray) -> GenerationRun:
        n = len(right)
        outcomes = tuple("right" if each else "wrong step" for each in right)
        return GenerationRun(name, way, draw, ((0, 0),), outcomes, np.full(n, np.nan), np.ones(n, int), right < 0)

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


def test_a_question_with_two_rows_at_a_level_is_no_two_questions():
    rng = np.random.default_rng(1)
    first, second = rng.normal(0.3, 1, 30), rng.normal(0, 1, 40)
    items = np.arange(30), np.arange(30, 70)
    once = between_levels(first, second, *items)
    twice = between_levels(*(np.tile(each, 2) for each in (first, second, *items)))
    assert np.allclose(once, twice, atol=0.06)
    # Of questions at both levels, too, only whole ones are drawn and change places.
    same = between_levels(first, first + 0.5, items[0], items[0])
    assert np.allclose(same[:2], -0.5) and same[2] < 0.01
    assert np.isnan(between_levels(first[:1], second, items[0][:1], items[1])).all()


def test_it_is_told_in_sentences(found):
    intact = np.repeat([True, False], 20)
    own = intact.copy()
    own[:12], own[20:33] = False, True
    # Of 40 questions 12 are lost and 13 gained.
    said = str(planted({-1: own, **dict.fromkeys(range(3), intact)}, intact)).splitlines()
    assert said[0] == "m on t: 40 questions; with no head changed 50 % right (by j)."
    assert said[1].startswith(
        "set (1 head), zero: 52 % right, +3 points (-22 to +28), p 1, 1 after Holm. 3 random sets"
    )
    assert said[1].endswith("Of so few no p under 0.5 can come; it is 0.5.")
    # Ablated, they gain on hard questions: so it is easy ones that they help on.
    assert "+65 points on the hardest questions (2) and -60 on the easiest (1); against random sets p 0.5" in said[2]
    assert "these heads help easy questions and harm hard ones." in said[2] and "over-thinking" not in said[2]
    assert said[3] == "Failures that become surely more or fewer (Holm): none."
    assert (
        repr(found) == "GenerationEffects(deductor-130k on prontoqa/implication_elimination/1+3, 8 questions, 4 runs)"
    )


def test_over_thinking_is_told_of_heads_that_help_on_hard_questions_when_amplified():
    intact = np.repeat([True, False], 20)
    gained, lost = intact.copy(), intact.copy()
    gained[:12], gained[20:33] = False, True
    lost[:20] = False
    amplified = planted({-1: gained}, intact, way="x1.3")
    assert "x1.3: +65 points on the hardest questions (2) and -60" in str(amplified)
    assert "these heads help hard questions and harm easy ones (over-thinking)." in str(amplified)
    said = str(planted({-1: lost}, intact))
    assert "Nothing surely gains" in said and "No other heads match them" in said
    assert "set, zero: wrong step 50 to 100 %." in said
    alone = dataclasses.replace(amplified, groups={})
    assert "By difficulty nothing can be told: nothing tells how hard these questions are" in str(alone)


def test_failures_are_told_by_difficulty():
    intact = np.repeat([True, False], 20)
    own = intact.copy()
    own[:12] = False
    found = planted({-1: own, 0: intact}, intact)
    for table in (found.failures("hops"), found.failures(all_levels=False)):
        wrong = table[table["outcome"] == "wrong step"].set_index("level")
        assert (wrong.loc["1", "effect"], wrong.loc["2", "effect"]) == (0.6, 0.0)
        assert (wrong.loc["1", "margin"], wrong.loc["2", "after"]) == (0.6, 1.0)
        assert (table.groupby("level")[["before", "after"]].sum() == 1).all(axis=None)
    with pytest.raises(CircuitError, match="each hops together"):
        found.failures("hops", all_levels=True)


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
        ({"a/b": [(0, 0)], "A-b": [(0, 1)]}, ["zero"], "'a/b' and 'A-b' would share a folder"),
        ({"a": [(0, 0)]}, ["half"], "not 'half'"),
        ({"a": [(0, 0)]}, [1.0], "no ablation or scaling"),
        ({"a": [(0, 0)]}, [-2.0], "no ablation or scaling"),
        ({"a": [(0, 0)]}, [float("inf")], "no ablation or scaling"),
        ({"a": [(0, 0)]}, [0.5, "zero", 0.5], "the way x0.5 is given twice"),
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
