"""The elicitation study: what is taught and asked, its tables against planted verdicts, and its answer in words."""

import json

import numpy as np
import pandas as pd
import pytest
from eliciting import comparing, figures, plans, tables
from eliciting.proofs import HELD_OUT_SEED, HELD_OUT_SIZE, Proofs, Questions, told_apart
from eliciting.study import Plan
from hypothesis import given, settings
from hypothesis import strategies as st

import circuitkit as ck
from circuitkit import statistics
from circuitkit.tasks import prontoqa

ITEMS = 60
BENCHMARKS = {"headline": "proofs"}


def told(right):
    """Verdicts as a cell keeps them."""
    rows = np.atleast_2d(right).astype(int)
    return json.dumps({"headline": "/".join("".join(map(str, row)) for row in rows)})


def share(hits):
    return np.arange(ITEMS) < hits


def planted(base, skyline, trained, sizes=("5k", "60k", "1m"), examples=29):
    """Cells of several sizes: so many of 60 items right by base and skyline, and by each seed's training."""
    ends, runs = [], []
    for at, size in enumerate(sizes):
        common = {"size": size, "parameters": 1000 * 10**at, "truncated": 0.0, "unparseable": 0.0}
        ends += [{**common, "role": "base", "right": told(share(base[at]))}]
        ends += [{**common, "role": "skyline", "right": told(share(skyline[at]))}]
        losses = {"loss_before": 1.5, "loss_best": 0.4, "loss_chosen": 0.5, "chosen": 10}
        runs += [
            {**common, **losses, "training": "full", "examples": examples, "seed": seed, "trainable": 5,
             "learning_rate": 1e-3, "right": told(share(hits))}
            for seed, hits in enumerate(trained[at])
        ]  # fmt: skip
    return pd.DataFrame(ends), pd.DataFrame(runs)


def test_the_proofs_are_a_thousand_distinct_ones_that_the_evaluation_does_not_ask():
    examples, again = Proofs().examples(), Proofs().examples()
    taught = [told_apart(f"Q: {each.question}\nA:") for each in examples]
    asked = Questions().task()
    assert examples == again
    assert len(set(taught)) == 1000 and len({each.key for each in examples}) == 1000
    assert [sum(each.key.startswith(rule) for each in examples) for rule in Proofs().rules] == [250] * 4
    assert not set(taught) & {told_apart(item.question) for item in asked.items}
    assert Proofs(seed=1).examples() != examples
    for each in examples[:40]:
        assert prontoqa.judge(each.question, each.chain).strict


def test_the_questions_are_the_family_s_held_out_ones_each_asked_once():
    asked = Questions(n=50).task()
    per_rule = pd.Series([item.groups["rule"] for item in asked.items]).value_counts()
    assert per_rule.tolist() == [50] * 4
    assert len({told_apart(item.question) for item in asked.items}) == 200
    held_out = {
        each.prompt
        for rule in Questions().rules
        for each in prontoqa.generate(rule, shots=0, n=HELD_OUT_SIZE, seed=HELD_OUT_SEED)
    }
    assert {item.question for item in asked.items} <= held_out


def test_a_question_is_the_same_in_another_order_and_another_with_another_word():
    first = "Q: Every rompus is blue. Alex is a rompus. Prove: Alex is blue.\nA:"
    assert told_apart(first) == told_apart("Q: Alex is a rompus. Every rompus is blue. Prove: Alex is blue.\nA:")
    assert told_apart(first) != told_apart(first.replace("blue", "red"))


def test_recovered_is_the_share_of_the_way_and_its_intervals_hold_it():
    ends, runs = planted([0, 0, 6], [60, 60, 54], [(15, 15, 15), (45, 45, 45), (30, 36, 42)])
    found = tables.elicited_table(ends, runs, BENCHMARKS, seed=0)
    trained = found[found["training"] == "full"].set_index("size")
    assert trained["recovered"].round(6).tolist() == [25.0, 75.0, 62.5]
    assert trained["accuracy"].round(6).tolist() == [25.0, 75.0, 60.0]
    for low, high in [("low", "high"), ("items_low", "items_high"), ("items_bootstrap_low", "items_bootstrap_high")]:
        assert ((trained[low] < trained["recovered"]) & (trained["recovered"] < trained[high])).all()
    spread = trained["high"] - trained["low"]
    assert spread["1m"] > (trained["items_high"] - trained["items_low"])["1m"]
    assert trained.loc["1m", "accuracy_se"] == pytest.approx(100 * np.std([0.5, 0.6, 0.7], ddof=1) / 3**0.5)
    assert ((found["accuracy_low"] < found["accuracy"]) | (found["accuracy"] == 0)).all()
    assert ((found["accuracy_high"] > found["accuracy"]) | (found["accuracy"] == 100)).all()
    # Of one run it is Wilson's, and no runs that are all wrong leave it without a width.
    base = found[found["training"] == "none"].set_index("size")
    assert base.loc["1m", "accuracy_high"] == pytest.approx(100 * statistics.wilson(6, 60).high)
    assert tables.accuracy_interval(np.zeros((2, 60))) == (0, pytest.approx(100 * statistics.wilson(0, 60).high))
    low, high = tables.accuracy_interval(np.repeat([[0.0] * 60, [1.0] * 60], 4, axis=0))
    assert low < 20 and high > 80
    assert trained["loss_decrease"].tolist() == pytest.approx([1.0] * 3)
    assert (found["training"].value_counts() == 3).all()


def test_recovered_is_undefined_where_the_skyline_does_not_beat_the_base():
    ends, runs = planted([5], [6], [(8, 9)], sizes=("5k",))
    row = tables.elicited_table(ends, runs, BENCHMARKS, seed=0).query("training == 'full'").iloc[0]
    assert "does not beat" in row["undefined"]
    assert np.isnan(row[["recovered", "low", "high"]].astype(float)).all()
    enough = tables.sufficiency_table(ends, runs, BENCHMARKS, seed=0)
    assert not enough["suffices"].any()
    assert "no skyline beats its base" in tables.answer(enough)


@pytest.mark.parametrize(
    ("trained", "verdict"),
    [
        ([(2, 3, 2), (50, 52, 51), (58, 58, 59)], "29 examples suffice from 60k on"),
        ([(2, 3, 2), (50, 52, 51), (3, 2, 3)], "suffice at 60k, and not at every larger size"),
        ([(2, 3, 2), (5, 4, 6), (20, 50, 30)], "At no size do 29 examples suffice"),
    ],
)
def test_the_answer_names_the_size_from_which_few_examples_suffice(trained, verdict):
    ends, runs = planted([0, 0, 0], [50, 60, 60], trained)
    enough = tables.sufficiency_table(ends, runs, BENCHMARKS, seed=0)
    assert verdict in tables.answer(enough)
    assert enough["level"].tolist() == pytest.approx([1 - 0.05 / 3] * 3)
    alone = tables.elicited_table(ends, runs, BENCHMARKS, seed=0).query("training == 'full'")
    # Intervals that hold over all sizes at once are wider than those that hold one by one.
    assert (enough["low"].to_numpy() <= alone["low"].to_numpy()).all()


def test_what_is_undefined_is_left_out_of_the_correction_and_named():
    ends, runs = planted([0, 0, 0], [1, 60, 60], [(2, 3, 2), (50, 52, 51), (58, 58, 59)])
    enough = tables.sufficiency_table(ends, runs, BENCHMARKS, seed=0)
    assert enough["level"].dropna().tolist() == pytest.approx([0.975] * 2)
    assert "Not asked of 5k" in tables.answer(enough)


def test_the_fewest_examples_that_suffice_are_found_by_size():
    ends, few = planted([0, 0, 0], [60, 60, 60], [(2, 3, 2), (5, 4, 6), (58, 58, 59)])
    _, many = planted([0, 0, 0], [60, 60, 60], [(2, 3, 2), (50, 52, 51), (60, 60, 60)], examples=928)
    found = tables.fewest_table(tables.elicited_table(ends, pd.concat([few, many]), BENCHMARKS, seed=0))
    assert found["fewest"].isna().tolist() == [True, False, False]
    assert found["fewest"].tolist()[1:] == [928, 29]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 60), min_size=2, max_size=5), st.integers(0, 20))
def test_a_gain_s_p_is_never_smaller_than_that_over_items_alone(hits, base):
    trained = np.stack([share(each) for each in hits]).astype(float)
    over_items = float(ck.statistics.sign_flip_test(trained.mean(0) - share(base), seed=0).p)
    assert tables.gain_p(share(base).astype(float), trained, 0) >= over_items


def test_runs_of_drawn_tokens_count_as_runs():
    ends, runs = planted([0], [60], [(30,)], sizes=("7B",))
    runs["right"] = [told(np.stack([share(20), share(40)]))]
    ends.loc[0, "right"] = told(np.stack([share(0), share(10)]))
    row = tables.elicited_table(ends, runs, BENCHMARKS, seed=0).query("training == 'full'").iloc[0]
    assert (row["runs"], row["accuracy"]) == (2, pytest.approx(50.0))
    assert row["recovered"] == pytest.approx(100 * (30 - 5) / (60 - 5))


def test_draws_of_one_training_are_no_trainings_of_their_own():
    ends, runs = planted([0], [60], [(20, 40)], sizes=("7B",))
    alone = tables.elicited_table(ends, runs, BENCHMARKS, seed=0).query("training == 'full'").iloc[0]
    runs["right"] = [told(np.stack([share(hits)] * 8)) for hits in (20, 40)]
    drawn = tables.elicited_table(ends, runs, BENCHMARKS, seed=0).query("training == 'full'").iloc[0]
    measured = ["runs", "accuracy", "accuracy_se", "p_gain", "recovered", "low", "high", "runs_low", "runs_high"]
    assert drawn[measured].astype(float).tolist() == pytest.approx(alone[measured].astype(float).tolist())


def test_an_interval_has_no_end_where_drawn_skylines_fall_below_their_base():
    base, skyline = np.arange(ITEMS) < 2, (np.arange(ITEMS) >= 2) & (np.arange(ITEMS) < 11)
    trained = np.stack([np.arange(ITEMS) >= 30] * 2)
    group = tables.Group("5k", "proofs", "full", 29, *(each.astype(float) for each in (base, skyline, trained)), None)
    low, high = tables.over_both(group, seed=0, level=0.99)
    assert 0 < low < 400 and high == np.inf


def test_errors_of_greedy_ends_are_told_to_be_over_items():
    ends, runs = planted([0, 5, 6], [60, 50, 54], [(15, 20), (45, 40), (30, 36)])
    found = tables.elicited_table(ends, pd.concat([runs, runs.assign(training="lora")]), BENCHMARKS, seed=0)
    row = found.query("size == '60k' and training == 'none'").iloc[0]
    assert (row["runs"], row["accuracy_se"]) == (1, pytest.approx(100 * (5 / 60 * 55 / 60 / 60) ** 0.5))
    for figure in (figures.bars(found, {}), figures.every_accuracy(found, {})):
        labels = [text.get_text() for text in figure.legends[0].get_texts()]
        assert "± standard error (base and skyline over items, trained over seeds)" in labels
        assert "± standard error over seeds" not in labels


def test_an_end_that_lies_infinitely_far_off_is_drawn_to_the_edge():
    ends, runs = planted([0, 0, 0], [60, 60, 60], [(15, 15), (45, 45), (30, 30)])
    found = tables.elicited_table(ends, runs, BENCHMARKS, seed=0).query("training == 'full'")
    (axes,) = figures.shares(found.assign(high=np.inf)).axes
    tops = [segment[:, 1].max() for lines in axes.collections for segment in lines.get_segments()]
    assert tops == pytest.approx([axes.get_ylim()[1]] * 3)


def test_more_sizes_than_colours_still_look_different():
    known = figures.looks(pd.DataFrame({"size": [f"{n}B" for n in range(20)]}))
    assert len(known) == len(set(known.values())) == 20


def compared_cells(values):
    return pd.DataFrame(
        [
            {"size": size, "examples": 29, "seed": seed, **dict.fromkeys(comparing.MEASURES, value + 0.001 * seed)}
            for size, value in zip("abcdef", values, strict=True)
            for seed in range(2)
        ]
    )


def test_a_measure_that_orders_six_sizes_perfectly_reaches_the_smallest_p_there_is():
    gains = pd.DataFrame(
        {"size": list("abcdef"), "parameters": [1, 2, 3, 4, 5, 6], "gain": [1.0, 2, 3, 4, 5, 6],
         "gains": [False, False, False, True, True, True]}
    )  # fmt: skip
    found = comparing.against_gain(compared_cells([1, 2, 3, 4, 5, 6]), gains, 29)
    assert found["correlation"].tolist() == pytest.approx([1.0] * len(found))
    assert found["p"].tolist() == pytest.approx([2 / 720] * len(found))
    assert found["p_corrected"].tolist() == pytest.approx([len(found) * 2 / 720] * len(found))
    assert found["p_groups"].tolist() == pytest.approx([0.1] * len(found))
    assert "goes with" in comparing.sentence(found) and "cannot be under 0.0028" in comparing.sentence(found)
    mixed = comparing.against_gain(compared_cells([3, 6, 1, 5, 2, 4]), gains, 29)
    assert (mixed["p"] > 0.5).all()
    assert "no measure surely goes with the gain" in comparing.sentence(mixed)


def test_one_size_among_six_can_stand_out_with_one_in_six():
    values = np.array([1.0, 2, 3, 4, 5, 6])
    assert comparing.groups_p(values[5:], values[:5]) == pytest.approx(1 / 6 + 1 / 6)
    assert comparing.groups_p(np.array([9.0]), values[:5]) == pytest.approx(1 / 6)
    assert comparing.groups_p(values[:3], values[3:]) == pytest.approx(2 / 20)


def test_nothing_is_divided_where_all_sizes_gain_or_none():
    gains = pd.DataFrame({"size": list("abcdef"), "parameters": range(6), "gain": [0.0] * 6, "gains": [False] * 6})
    found = comparing.against_gain(compared_cells([1, 2, 3, 4, 5, 6]), gains, 29)
    assert found[["p", "p_groups", "p_corrected"]].isna().all(axis=None)
    assert "it is the same for all" in comparing.sentence(found)
    assert "cannot be under" not in comparing.sentence(found)


def test_three_sizes_cannot_tell_anything_and_no_p_is_said_to_be_above_one():
    gains = pd.DataFrame(
        {"size": list("abc"), "parameters": [1, 2, 3], "gain": [1.0, 2, 3], "gains": [False, False, True]}
    )
    found = comparing.against_gain(compared_cells([1, 2, 3, 4, 5, 6]), gains, 29)
    assert "cannot be under 0.33, or 1 corrected" in comparing.sentence(found)
    assert "no measure surely goes with the gain" in comparing.sentence(found)


@pytest.mark.slow
def test_the_family_s_study_runs_whole_and_goes_on_where_it_was(tmp_path, monkeypatch):
    sizes = ("5k", "20k")
    few = Plan({"full": (1e-3, 3e-3), "lora": (1e-2,)}, (29,), (0, 1), steps=4, every=2, tokens=200)
    monkeypatch.setitem(plans.PLANS, "small", (few, sizes, Questions(n=3)))
    plans.family_study(tmp_path, "small", {}, None).run(0)
    found = pd.read_csv(tmp_path / "elicited.csv")
    assert set(found["size"]) == set(sizes) and set(found["training"]) == {"none", "distilled", "full", "lora"}
    tries = pd.read_csv(tmp_path / "learning_rates.csv").query("training == 'full'")
    best = tries.loc[tries.groupby("size")["lowest"].idxmin()]
    assert tries.loc[tries["chosen"], "learning_rate"].tolist() == best["learning_rate"].tolist()
    runs = pd.read_csv(tmp_path / "trainings.csv")
    assert len(runs) == 2 * 2 * 2
    hashes = runs[runs["training"] == "full"].groupby("seed")["subset_hash"].nunique()
    assert hashes.tolist() == [1, 1]
    moved = pd.read_csv(tmp_path / "moved_by_role.csv")
    assert (moved["relative"] > 0).all() and {"q_proj", "down_proj", "norm"} <= set(moved["role"])
    for name in ("figure_1", "figure_2", "figure_3", "figure_4", "moved", "alike", "against_gain_29", "curves"):
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000

    def again(*_, **__):
        raise AssertionError("a cell that had ended was run again")

    monkeypatch.setattr(ck, "train", again)
    monkeypatch.setattr(ck, "evaluate", again)
    before = (tmp_path / "elicited.csv").read_bytes()
    plans.family_study(tmp_path, "small", {}, None).run(0)
    assert (tmp_path / "elicited.csv").read_bytes() == before
