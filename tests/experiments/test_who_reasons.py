"""Who reasons: controls of equal size, changes that undo themselves, tables against planted answers, and the page."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import who_reasons
from eliciting.proofs import Proofs, told_apart
from hypothesis import given, settings
from hypothesis import strategies as st
from stethoscope import asking, figures, page, plans, tables, verdict
from stethoscope.answers import Answers, effect, margin
from stethoscope.asking import Contest, Deductions
from stethoscope.changing import Destruction, Graft, Weights
from stethoscope.fluency import log_likelihoods
from stethoscope.modules import (
    PROJECTIONS,
    Control,
    Modules,
    controls,
    drawn,
    matrices,
    parameters,
    sets,
    sizes,
    whole_matrices,
)
from stethoscope.study import Running, Study

import circuitkit as ck
from circuitkit.sfn import Part, live_parts
from circuitkit.tasks.task import Item, TaskError
from sfn.toys import written

O_PROJ = Modules("o_proj", ("o_proj",))
N = 60


@pytest.fixture(scope="module")
def base() -> ck.Model:
    return ck.load("deductor-20k-base")


@pytest.fixture(scope="module")
def parts(base: ck.Model) -> tuple[Part, ...]:
    return live_parts(base)


def every_set(parts: tuple[Part, ...]) -> list[Modules]:
    return sets([role for part in parts for role in part.roles])


# Sets and controls


def test_the_sets_are_the_papers_and_every_projection(parts):
    names = [each.name for each in every_set(parts)]
    assert names[:3] == ["o_proj", "q, k, v", "mlp"]
    assert set(names[3:]) == set(PROJECTIONS) - {"o_proj"}


@pytest.mark.parametrize("name", ["deductor-60k-base", "deductor-1m-base"])
@pytest.mark.parametrize("kind", ["slices", "rows"])
def test_a_control_has_as_many_parameters_in_each_layer(name, kind):
    parts = live_parts(ck.load(name))
    longest = max(part.numel // part.shape[part.out_axis] for part in parts if len(part.shape) > 1)
    for each in every_set(parts):
        for control in controls(parts, each, kind, 4):
            rows = drawn(parts, control)
            for layer, wanted in sizes(parts, each.roles).items():
                own = parameters([(part, which) for part, which in rows if part.layer == layer])
                assert abs(own - wanted) <= longest / 2
                assert all(len(set(which.tolist())) == len(which) for _, which in rows)


def test_slices_are_of_other_modules_wherever_these_suffice(parts):
    for each in every_set(parts):
        wanted = sum(sizes(parts, each.roles).values())
        others = [role for role in PROJECTIONS if role not in each.roles]
        enough = sum(sizes(parts, others).values()) >= wanted
        for control in controls(parts, each, "slices", 12):
            taken = {role for part, _ in drawn(parts, control) for role in part.roles}
            assert enough == (not taken & set(each.roles))


def test_whole_modules_of_the_same_size_are_controls_too_and_draws_are_the_same_again(parts):
    found = controls(parts, O_PROJ, "slices", 40)
    assert found == controls(parts, O_PROJ, "slices", 40)
    whole = {control.of for control in found if control.draw == 0 and len(control.of) == 1}
    assert {("q_proj",), ("k_proj",), ("v_proj",)} <= whole
    assert ("o_proj",) not in {control.of for control in found}
    # Sets of one size have their controls in common.
    assert set(found[:9]) & set(controls(parts, Modules("q_proj", ("q_proj",)), "slices", 40))


def test_sets_that_are_trained_are_held_against_whole_matrices_of_other_modules(parts):
    found = whole_matrices(parts, O_PROJ, 6)
    known = {part.parameter: part for part in matrices(parts, PROJECTIONS)}
    wanted = sum(sizes(parts, ("o_proj",)).values())
    assert len(found) == len(set(found)) == 6
    for names in found:
        assert sum(known[name].numel for name in names) == pytest.approx(wanted, rel=0.05)
        assert not any("o_proj" in known[name].roles for name in names)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**31), name=st.sampled_from(["q_proj", "mlp", "q, k, v"]))
def test_any_draw_has_the_size_of_its_set(seed, name):
    parts = live_parts(ck.load("deductor-5k-base"))
    each = next(one for one in every_set(parts) if one.name == name)
    control = replace(controls(parts, each, "slices", 1)[0], draw=seed)
    assert parameters(drawn(parts, control)) == sum(sizes(parts, each.roles).values())


def test_a_layer_with_too_few_parameters_is_refused(parts):
    with pytest.raises(ValueError, match=r"layer 0 has fewer than .* parameters in o_proj"):
        drawn(parts, Control("slices", ("down_proj",), ("o_proj",), 0))


# Changes


@pytest.mark.parametrize("architecture", ["gpt2", "qwen2"])
def test_a_graft_of_a_control_takes_exactly_its_rows_and_undoes_itself(architecture, tmp_path):
    a, b = (str(written(architecture, tmp_path / str(seed), seed=seed)) for seed in (0, 1))
    model, giver = ck.load(a), ck.load(b)
    before = {name: each.detach().clone() for name, each in model.hf.named_parameters()}
    parts = live_parts(model)
    control = controls(parts, O_PROJ, "slices", 3)[1]
    with Graft(control, Weights.of(b, {})).on(model, 0) as replaced:
        now = dict(model.hf.named_parameters())
        changed = sum(int((now[name] != each).sum()) for name, each in before.items())
        assert changed == replaced == parameters(drawn(parts, control))
        theirs = dict(giver.hf.named_parameters())
        for name, each in before.items():
            assert torch.equal(now[name] != each, (now[name] == theirs[name]) & (each != theirs[name]))
    assert all(torch.equal(each, before[name]) for name, each in model.hf.named_parameters())


@pytest.mark.parametrize("how", ["zero", "reinit", "noise"])
def test_a_control_is_destroyed_row_by_row_and_given_back(base, parts, how):
    before = {name: each.detach().clone() for name, each in base.hf.named_parameters()}
    control = controls(parts, O_PROJ, "rows", 2)[1]
    rows = drawn(parts, control)
    seen = []
    for seed in (0, 0, 1):
        with Destruction(control, how, sigma=0.5).on(base, seed) as replaced:
            assert replaced == parameters(rows)
            now = dict(base.hf.named_parameters())
            taken = torch.cat(
                [
                    part.take(now[part.tensor]).index_select(part.out_axis, torch.from_numpy(w)).flatten()
                    for part, w in rows
                ]
            )
            untouched = [name for name in before if name not in {part.tensor for part, _ in rows}]
            assert all(torch.equal(now[name], before[name]) for name in untouched)
            seen.append(taken.detach().clone())
    assert all(torch.equal(each, before[name]) for name, each in base.hf.named_parameters())
    assert torch.equal(seen[0], seen[1])
    if how == "zero":
        assert not seen[0].any()
    else:
        assert not torch.equal(seen[0], seen[2])
    if how == "reinit":
        assert float(seen[0].std()) == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize("role", ["q_proj", "mlp"])
def test_modules_lose_as_many_parameters_as_their_controls_and_keep_their_biases(role, tmp_path):
    a, b = (str(written("qwen2", tmp_path / str(seed), seed=seed)) for seed in (0, 1))
    model = ck.load(a)
    parts, modules = live_parts(model), next(each for each in every_set(live_parts(model)) if each.name == role)
    biases = [part.tensor for part in parts if part.bias]
    before = {name: model.hf.get_parameter(name).detach().clone() for name in biases}
    assert any(role in part.roles for part in parts if part.bias) == (role == "q_proj")
    for change in (Graft(modules, Weights.of(b, {})), Destruction(modules, "reinit")):
        with change.on(model, 0) as replaced:
            assert replaced == sum(sizes(parts, modules.roles).values())
            assert all(torch.equal(model.hf.get_parameter(name), before[name]) for name in biases)


def test_a_whole_layer_passes_its_input_through(base):
    with Destruction(Modules("layer", ("all",), (1,)), "remove").on(base, 0):
        found = base.run("Every wumpus is shy.", capture=["resid_pre[layer=1]", "resid_post[layer=1]"])
        assert torch.equal(*found.cache.values())


# What is asked


def test_seeds_ask_other_questions_none_of_which_is_taught():
    asked = Deductions(n=5)
    tasks = {seed: asked.task((seed,)) for seed in (0, 1, 2)}
    every = [told_apart(item.question) for task in tasks.values() for item in task.items]
    assert len(every) == len(set(every)) == 3 * 4 * 5
    together = asked.task((0, 1, 2))
    assert [item.key for item in together.items] == [item.key for task in tasks.values() for item in task.items]
    assert {item.groups["draw"] for item in together.items} == {0, 1, 2}
    taught = {told_apart(f"Q: {each.question}\nA:") for each in Proofs().examples()}
    assert not set(every) & taught
    with pytest.raises(TaskError, match=r"held-out questions of .* left and wants 200"):
        Deductions(n=200).task((0, 1))


def test_the_fluency_is_the_mean_log_likelihood_that_transformers_has(base):
    texts = Deductions(texts=12).fluent()
    assert len(texts) == len(set(texts)) == 12 and all("Prove" not in text and "True" not in text for text in texts)
    found = log_likelihoods(base, texts, batch=5)
    for text, value in zip(texts, found, strict=True):
        ids = base.tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            assert value == pytest.approx(-float(base.hf(input_ids=ids, labels=ids).loss), abs=1e-5)
    with pytest.raises(ValueError, match="'Q' is a single token"):
        log_likelihoods(base, ["Q: Every wumpus is shy.", "Q"])


def test_a_file_is_read_in_pieces_that_lose_no_word(tmp_path):
    text = tmp_path / "novel.txt"
    text.write_text(" ".join(f"word{number}" for number in range(400)), encoding="utf-8")
    pieces = Contest("aime24", text, window=100).fluent()
    assert " ".join(pieces) == text.read_text(encoding="utf-8")[: len(" ".join(pieces))]
    assert len(pieces) == Contest("aime24", text).texts or " ".join(pieces).endswith("word399")
    with pytest.raises(TaskError, match=r"no file .* --fluency"):
        Contest("aime24", tmp_path / "none.txt").fluent()
    with pytest.raises(TaskError, match="all seeds give the same answers"):
        Contest("aime24", text, temperature=0.0)


@pytest.mark.parametrize(
    ("gold", "response", "right"),
    [
        ("7", r"So \boxed{73}.", True),
        ("73", r"So \boxed{7}.", False),
        ("204", r"It is \boxed{1} or \boxed{204}.", True),
        ("204", "It is 204.", False),
        ("204", "\\boxed{\n204}", False),
    ],
)
def test_the_papers_scoring_is_lenient_and_line_by_line(gold, response, right):
    assert asking.published_judge(Item("", "?", gold), response).correct is right


def test_aime_is_asked_as_in_the_paper(monkeypatch, tmp_path):
    problems = [{"id": str(number), "problem": f"Problem {number}?", "answer": "7"} for number in range(2)]
    (tmp_path / "aime").mkdir()
    lines = "\n".join(json.dumps(each) for each in problems)
    (tmp_path / "aime" / "test2024.jsonl").write_text(lines, encoding="utf-8")
    monkeypatch.setenv("CIRCUITKIT_DATA", str(tmp_path))
    task = asking.asked_as_published("aime24")
    assert task.items[0].question.startswith("Problem 0?\n\nPlease reason step by step")
    assert task.items[0].question.count(r"\boxed{}") == 2 and list(task.judges) == ["robust", "harness", "published"]


# Answers and tables, planted


def cell(hits, fluency=-1.0, level=3, seeds=(0, 1, 2), **labels):
    """A cell of twenty answers a seed, of which so many are right, spread evenly over seeds."""
    each = [np.arange(20) < (hits // 3 + (seed < hits % 3)) for seed in range(3)]
    return {
        "seeds": "/".join(map(str, seeds)),
        "right": "/".join("".join(str(int(one)) for one in each[seed]) for seed in seeds),
        "items": json.dumps([f"{seed}/{number}" for seed in seeds for number in range(20)]),
        "levels": "/".join(str(level) * 20 for _ in seeds),
        "tokens": "/".join("12.0" for _ in seeds),
        "truncated": 0.0,
        "unparseable": 0.0,
        "fluency": json.dumps((fluency + 0.01 * np.arange(6)).tolist()),
        "replaced": 100,
        "kind": "set",
        **labels,
    }  # fmt: skip


def planted(into, back, controls=40):
    """Grafts of a pair: by set, the right answers of 60 that it leaves; controls do nothing."""
    rows = []
    for direction, intact, whole, hits in (("into A", 2, 50, into), ("back into B", 50, 2, back)):
        common = {"pair": "twins", "direction": direction}
        rows += [cell(intact, **common, set="none") | {"kind": "end"}]
        rows += [cell(whole, **common, set="all projections") | {"kind": "end"}]
        for name, right in hits.items():
            rows.append(cell(right, fluency=-1.0 if name == "o_proj" else -1.5, **common, set=name))
            for number in range(controls):
                drift = (number % 3) if direction == "into A" else -(number % 3)
                labels = {"set": name, "kind": "slices", "number": number}
                rows.append(cell(intact + drift, fluency=-1.4, **common) | labels)
                rows.append(cell(intact + drift, **common) | labels | {"kind": "rows"})
    return pd.DataFrame(rows)


YES = planted({"o_proj": 40, "q_proj": 2}, {"o_proj": 4, "q_proj": 50})
NO = planted({"o_proj": 2, "q_proj": 40}, {"o_proj": 50, "q_proj": 4})


def test_answers_of_several_twins_stand_in_the_order_of_seeds():
    rows = pd.DataFrame([cell(30, seeds=(2,)), cell(31, seeds=(0,)), cell(30, seeds=(1,), fluency=-2.0)])
    found = Answers.of(rows)
    assert [int(part.sum()) for part in found.right] == [11, 10, 10]
    assert found.items[0] == "0/0" and found.items[-1] == "2/19"
    assert found.fluency.mean() == pytest.approx((2 * -1.0 + -2.0) / 3 + 0.025)


def test_an_interval_knows_that_seeds_with_weights_of_their_own_differ():
    same, apart = Answers.of(pd.DataFrame([cell(30)])), Answers.of(pd.DataFrame([cell(30)]))
    far = replace(apart, right=(np.ones(20), np.zeros(20), np.ones(20) * (np.arange(20) < 10)))
    plain = same.interval(random=False)
    assert plain == pytest.approx(ck.statistics.wilson(30, 60))
    assert same.interval(random=True) == plain
    assert far.accuracy == same.accuracy and far.interval(random=True) == (0.0, 1.0)
    assert far.interval(random=False) == pytest.approx(plain)


def test_questions_that_are_asked_again_make_no_interval_narrower():
    again = Answers.of(pd.DataFrame([cell(0)]))
    again = replace(again, items=tuple(str(number % 20) for number in range(60)))
    assert again.interval(random=False) == pytest.approx(ck.statistics.wilson(0, 20))


def test_an_effect_of_no_answer_at_all_is_not_sure_to_be_none():
    before = Answers.of(pd.DataFrame([cell(2)]))
    found = effect(before, before)
    assert found.value == 0 and found.low < -0.02 and found.high > 0.02
    gain = effect(before, Answers.of(pd.DataFrame([cell(40)])))
    assert gain.value == pytest.approx(38 / 60) and 0.4 < gain.low < gain.value < gain.high < 0.8


def test_a_margin_counts_controls_that_do_as_much_in_the_same_direction():
    before, after = (Answers.of(pd.DataFrame([cell(hits)])) for hits in (30, 20))
    others = [Answers.of(pd.DataFrame([cell(hits)])) for hits in (10, 20, 25, 30, 31, 40, 45, 50, 30)]
    found = margin(before, after, others, -1)
    assert (found.p, found.n) == (3 / 10, 9)
    assert found.mean == pytest.approx((281 / 9 - 30) / 60) and found.value == pytest.approx(-1 / 6 - found.mean)
    assert found.low < found.value < found.high
    assert margin(before, after, others, 1).p == (1 + 8) / 10
    with pytest.raises(ValueError, match="same questions"):
        margin(before, after, [], 1)


@pytest.mark.parametrize(("rows", "answer", "other"), [(YES, "yes", "q_proj"), (NO, "no", "o_proj")])
def test_a_planted_module_is_found_and_no_other(rows, answer, other):
    table = tables.merges_table(rows)
    own = table[table["kind"] == "set"].set_index(["direction", "set"])
    carrier = {"yes": "o_proj", "no": "q_proj"}[answer]
    assert own.loc[("into A", carrier), "p_corrected"] == pytest.approx(2 / 41)
    assert own.loc[("into A", other), "p_corrected"] > 0.3
    assert own.loc[("into A", carrier), "effect"] == pytest.approx(38 / 60)
    into, back = (verdict.of_merges(table, "twins", direction) for direction in plans.DIRECTIONS)
    assert verdict.answer(into, back) == answer
    assert f"(Holm): {carrier} " in verdict.singled_out(table, "twins", "back into B")
    pair = plans.Pair("twins", "a", ("b",))
    said = page.page([pair], table, pd.DataFrame(), pd.DataFrame(), {}, [])
    assert f"does o_proj carry the reasoning? {answer.capitalize()}" in said


def test_a_module_that_is_needed_but_does_not_suffice_carries_it_in_part():
    rows = planted({"o_proj": 2, "q_proj": 2}, {"o_proj": 4, "q_proj": 50})
    table = tables.merges_table(rows)
    found = [verdict.of_merges(table, "twins", direction) for direction in plans.DIRECTIONS]
    assert [each.status == "more" for each in found] == [False, True] and verdict.answer(*found) == "in part"


def test_a_module_that_beats_controls_too_few_for_any_p_is_not_said_to_carry_nothing():
    rows = planted({"o_proj": 40, "q_proj": 2}, {"o_proj": 4, "q_proj": 50}, controls=9)
    table = tables.merges_table(rows)
    found = [verdict.of_merges(table, "twins", direction) for direction in plans.DIRECTIONS]
    assert {each.status for each in found} == {"too few controls"} and verdict.answer(*found) == "cannot be told"
    assert "they are too few to tell" in found[0].said
    assert "(too few controls to tell: o_proj)" in verdict.singled_out(table, "twins", "into A")


def test_seeds_that_train_anew_make_effects_and_margins_wider():
    before = Answers.of(pd.DataFrame([cell(30)]))
    apart = replace(before, right=tuple((np.arange(20) < hits).astype(float) for hits in (12, 8, 15)))
    controls_ = [Answers.of(pd.DataFrame([cell(hits)])) for hits in (30, 30, 30)]
    for found in (effect, lambda *given, **how: margin(*given, controls_, 1, **how)):
        sure, drawn_anew = found(before, apart), found(before, apart, random=True)
        assert drawn_anew.value == sure.value and sure.low > -0.1
        # Student's over 10, -10 and 25 points.
        reach = 4.303 * np.std([0.1, -0.1, 0.25], ddof=1) / np.sqrt(3)
        assert drawn_anew.low == pytest.approx(1 / 12 - reach, abs=0.01)
        assert drawn_anew.high == pytest.approx(1 / 12 + reach, abs=0.01)


def test_where_not_even_all_projections_do_anything_nothing_is_told():
    rows = planted({"o_proj": 2, "q_proj": 2}, {"o_proj": 50, "q_proj": 50})
    still = rows["set"] == "all projections"
    rows.loc[still & (rows["direction"] == "into A"), "right"] = cell(2)["right"]
    rows.loc[still & (rows["direction"] == "back into B"), "right"] = cell(50)["right"]
    table = tables.merges_table(rows)
    found = [verdict.of_merges(table, "twins", direction) for direction in plans.DIRECTIONS]
    assert {each.status for each in found} == {"nothing to see"} and verdict.answer(*found) == "cannot be told"
    assert "not even all projections together" in found[0].said


def test_fluency_that_a_module_keeps_and_others_lose_is_told():
    table = tables.merges_table(YES)
    row = table[(table["set"] == "o_proj") & (table["direction"] == "into A")].iloc[0]
    assert row["fluency_change"] == pytest.approx(0.0) and row["control_fluency_change"] == pytest.approx(-0.4)
    assert row["p_fluency"] == pytest.approx(1 / 41)
    assert "keeps fluency more than other modules" in verdict.labour(table, "twins", "into A")


def test_trainings_are_held_against_embeddings_alone_and_matrices_of_that_size():
    rows = [cell(10, set="none"), cell(40, set="o_proj"), cell(55, set="all")]
    rows += [cell(12 + number % 3, set=f"matrices {number}", kind="control") for number in range(19)]
    frame = pd.DataFrame(rows).assign(base="base", trainable=5, total=9, rate=0.01, validation_loss=0.2, seed=0)
    table = tables.trainings_table(frame)
    row = table.set_index("set").loc["o_proj"]
    assert row["effect"] == pytest.approx(0.5) and row["p"] == pytest.approx(1 / 20) and row["margin_low"] > 0.2
    found = verdict.of_training(table, "base")
    assert found is not None and found.status == "more" and "19 sets" in found.said
    assert verdict.of_training(table, "another") is None
    assert len(figures.trainings(table).axes) == 2


def test_destructions_are_corrected_over_the_sets_of_one_way():
    common = {"pair": "twins", "how": "zero", "layers": "all"}
    rows = [cell(50, set="none", kind="end", pair="twins", how="none", layers="")]
    for name, hits in (("o_proj", 45), ("q_proj", 3)):
        rows.append(cell(hits, set=name, **common))
        rows += [cell(40, set=name, **common) | {"kind": "slices", "number": n} for n in range(39)]
    removed = {"pair": "twins", "how": "remove", "layers": "0", "set": "layer 0"}
    table = tables.destructions_table(pd.DataFrame([*rows, cell(1, **removed)]))
    own = table[table["how"] == "zero"].set_index("set")
    assert own.loc["q_proj", "p_corrected"] == pytest.approx(2 / 40) and own.loc["o_proj", "p"] == 1.0
    found = verdict.of_destruction(table, "twins", "zero")
    assert found is not None and found.status == "less" and "controls" in found.said
    assert verdict.of_destruction(table, "twins", "noise") is None
    shown = figures.destructions(table, "twins")
    assert "layer 0 2 %" in shown.get_suptitle()


def test_figures_show_every_set_and_every_control():
    table, drawn_ = tables.merges_table(YES), tables.controls_table(YES, ("pair", "direction"))
    known = tables.ends(YES)
    assert known.loc[0, "A"] == pytest.approx(2 / 60) and known.loc[0, "B"] == pytest.approx(50 / 60)
    shown = figures.merges(table, drawn_, known).axes
    assert len(shown) == 2 and [text.get_text() for text in shown[0].get_yticklabels()] == ["o_proj", "q_proj"]
    dots = [line for line in shown[0].lines if line.get_marker() == "."]
    assert sum(len(line.get_xdata()) for line in dots) == 2 * 40
    shares = figures.levels(table).axes[0]
    assert sum(patch.get_width() for patch in shares.patches) == pytest.approx(4 * 100)
    assert len(figures.labour(table, drawn_, known).axes) == 2


# The command line


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"a": "x"}, "--a and --b are a pair"),
        ({"fluency": Path("novel.txt")}, "go with --task"),
        ({"a": "x", "b": "y", "task": "aime24"}, "needs --fluency"),
        ({"a": "x", "b": "y", "task": "aime24", "fluency": Path("n.txt"), "questions": 3}, "--questions counts"),
    ],
)
def test_what_does_not_go_together_is_refused(asked, told, tmp_path):
    with pytest.raises(SystemExit, match=told):
        who_reasons.main(out=tmp_path / "out", **asked)
    assert not (tmp_path / "out").exists()


def test_every_set_has_a_control_and_none_at_all_are_refused():
    pair = plans.but(plans.SMALL, (0, 1, 2), 3, None).pairs[0]
    assert (pair.controls, pair.others, pair.rows) == (3, 1, 1)
    with pytest.raises(SystemExit, match="--controls 0 leaves nothing"):
        plans.but(plans.SMALL, (0, 1, 2), 0, None)


def test_a_model_is_planned_for_without_its_weights_in_memory(tmp_path, monkeypatch):
    folder = str(written("qwen2", tmp_path / "model"))
    whole = Study(plans.Plan((), Deductions()), Running(tmp_path))
    expected = sizes(live_parts(ck.load(folder)), PROJECTIONS)
    monkeypatch.setattr(ck, "load", lambda *_args, **_settings: pytest.fail("weights were loaded"))
    assert sizes(whole.parts(folder), PROJECTIONS) == expected


def test_too_few_seeds_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"seeds \(0, 1\) are too few"):
        who_reasons.main(out=tmp_path / "out", seeds=(0, 1))


@pytest.mark.parametrize(("each_layer", "places"), [(True, {"", "all", "0", "1"}), (False, {"", "all", "0 to 0"})])
def test_large_models_are_destroyed_in_the_papers_stretch_of_layers(each_layer, places, tmp_path):
    plan = plans.Plan((plans.twins("20k", destroyed=2),), Deductions(), each_layer=each_layer)
    planned = list(Study(plan, Running(tmp_path)).ruins(plan.pairs[0]))
    assert {labels.get("layers", "") for labels, _ in planned} == places
    alone = [cell.parameters["change"].which.layers for labels, cell in planned if labels["how"] == "remove"]
    assert alone == ([(0,), (1,)] if each_layer else [(0,)])
    assert sum(labels["kind"] == "slices" for labels, _ in planned) == 3 * 9 * 2


def test_a_pair_of_ones_own_is_asked_with_drawn_tokens(tmp_path):
    asking_ = {"temperature": 0.6, "max_new_tokens": 64, "limit": 2}
    plan = plans.hub_plan("one/a", "two/b", "aime24", tmp_path / "novel.txt", "traces.jsonl", asking_)
    assert plan.pairs[0].name == "a and b" and plan.asked.draws == "tokens" and plan.asked.limit == 2
    assert plan.freezing[0].base == "one/a"
    more = plans.but(plan, (3, 4, 5), 50, None, {"dtype": "bfloat16"})
    assert (more.pairs[0].controls, more.pairs[0].others) == (50, 10) and more.freezing[0].seeds == (3, 4, 5)
    assert more.loading == {"dtype": "bfloat16"}
