"""The search: planted thresholds are found, none is found where there is none, and bad tables are named."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st

import circuitkit as ck
from circuitkit.thresholds import Threshold, ThresholdError, find
from planted_accuracy import chance, planted, step, straight


@pytest.fixture(scope="module")
def found() -> Threshold:
    return find(planted(step, 0, models=16, families=5, sure=200), task="a task", chance=0.2, draws=99, progress=False)


def test_a_planted_step_is_found_where_it_is(found: Threshold) -> None:
    assert found.verdict == "threshold" and found.best["curve"] == "step"
    low, high = found.interval
    assert low <= found.best["gap_low"] < 1e9 <= found.best["gap_high"] <= high and found.located
    assert found.best["rise"] == pytest.approx(0.45, abs=0.08)
    assert found.best["rise_low"] < 0.45 < found.best["rise_high"]
    assert (found.left_out["verdict"] == "threshold").sum() >= 4
    assert found.families["crosses"].all() and found.families["follows"].all()
    # Under the step the planted accuracy is chance, and over it it is not.
    assert found.frame["above_chance"].tolist() == (found.frame["parameters"] > 1e9).tolist()


def test_its_sentences_tell_it(found: Threshold) -> None:
    said = " ".join(found.sentences())
    assert said.startswith("a task: 16 models of 5 families, 100M to 10B parameters.")
    assert "There is a threshold: a step fits better" in said and "drawing families" in said
    assert "8 of 16 models are above chance (20 %" in said
    assert all(f"f{i} follows" in said for i in range(5))


def test_chance_alone_has_no_threshold() -> None:
    flat = find(planted(chance, 1, models=12), chance=0.2, draws=99, leave_out=False, progress=False)
    assert flat.verdict == "flat" and not flat.frame["above_chance"].any()
    said = " ".join(flat.sentences())
    assert (
        "accuracy cannot be shown to go with size" in said
        and "0 of 12 models are above chance" in said
        and "It lies" not in said
    )


def test_a_straight_rise_is_no_threshold() -> None:
    smooth = find(planted(straight, 4, sure=80), draws=99, leave_out=False, progress=False)
    assert smooth.verdict == "growth" and "No threshold is told" in " ".join(smooth.sentences())


def test_a_fall_is_no_threshold() -> None:
    fallen = planted(step, 0, models=16)
    fallen["correct"] = fallen["total"] - fallen["correct"]
    told = find(fallen, draws=99, leave_out=False, progress=False)
    assert told.verdict == "growth" and "begins no rise" in " ".join(told.sentences())


def test_one_family_alone_is_searched_and_said_to_be_alone() -> None:
    alone = find(planted(step, 0, models=10, families=1), draws=99, progress=False)
    assert alone.resampled == "models" and not len(alone.left_out)
    assert "One family alone" in " ".join(alone.sentences())


def test_a_family_that_does_not_follow_is_named() -> None:
    table = planted(step, 0, models=20, families=5)
    stuck = table["family"] == "f0"
    table.loc[stuck, "correct"] = 80
    told = find(table, draws=99, leave_out=False, progress=False)
    assert told.families.set_index("family")["follows"].to_dict() == {"f0": False} | {
        f"f{i}": True for i in range(1, 5)
    }
    assert "f0 does not (+0 points" in " ".join(told.sentences())


def test_isotonic_regression_can_keep_a_threshold_from_being_told(found: Threshold) -> None:
    frame = found.frame.assign(score_isotonic=found.frame["score_step"] + 0.2 * np.arange(16) % 2)
    curves = found.curves.set_index("curve")
    curves.loc["isotonic", "model_score"] = frame["score_isotonic"].mean()
    rivalled = replace(found, frame=frame, curves=curves.reset_index())
    assert found.verdict == "threshold" and rivalled.verdict == "possible"
    assert "but a line that only never falls predicts models that were left out" in " ".join(rivalled.sentences())


def test_a_step_that_is_one_familys_predicts_no_other_family() -> None:
    table = planted(step, 0, models=20, families=5, sure=100)
    table.loc[table["parameters"] > 1e9, "family"] = "large"
    told = find(table, draws=99, leave_out=False, progress=False)
    gain, error = told.gain
    assert told.gain_by_family is not None and told.gain_by_family[0] < 0 < error < gain
    said = " ".join(told.sentences())
    assert told.verdict == "possible" and "but not whole families that were left out" in said
    assert "No family has models on both sides" in said


def test_a_gain_on_families_has_the_standard_error_of_clusters(found: Threshold) -> None:
    told, smooth = found.gain_by_family, found.best_smooth_by_family
    assert told is not None and smooth is not None
    more = found.frame["family_score_step"] - found.frame[f"family_score_{smooth['curve']}"]
    families = found.frame["family"].astype("category").cat.codes
    clustered = sm.OLS(more, np.ones(16)).fit(cov_type="cluster", cov_kwds={"groups": families})
    assert told == pytest.approx((clustered.params.iloc[0], clustered.bse.iloc[0]))


def test_a_p_near_the_level_is_said_to_want_more_draws(found: Threshold) -> None:
    near = replace(found, tests=found.tests.assign(p_corrected=0.04))
    assert near.p_error == pytest.approx(np.sqrt(0.04 * 0.96 / 99))
    assert "That p is within two standard errors (0.020, for want of draws) of 0.05" in " ".join(near.sentences())
    assert "for want of draws" not in " ".join(replace(found, tests=found.tests.assign(p_corrected=0.5)).sentences())


def test_a_family_left_out_has_all_draws_where_few_leave_its_p_open() -> None:
    table = planted(step, 4, models=12, families=2, sure=15)
    left_out = find(table, draws=199, progress=False).left_out.set_index("family")
    opened = []
    for family, row in left_out.iterrows():
        rest = table[table["family"] != family]
        few = find(rest, draws=99, leave_out=False, progress=False).p
        is_open = abs(few - 0.05) < 4 * np.sqrt(few * (1 - few) / 99)
        assert row["p"] == (find(rest, draws=199, leave_out=False, progress=False).p if is_open else few)
        opened.append(is_open)
    assert set(opened) == {True, False}


@given(order=st.permutations(list(range(10))), scale=st.sampled_from([1e-6, 0.5, 3.0, 1e3]))
@settings(max_examples=3, deadline=None)
def test_neither_order_nor_unit_of_size_matters(order: list[int], scale: float) -> None:
    table = planted(step, 7, models=10, families=5, sure=40)
    moved = table.iloc[order].assign(parameters=lambda rows: rows["parameters"] * scale)
    plain, other = (find(each, draws=39, leave_out=False, progress=False) for each in (table, moved))
    assert other.verdict == plain.verdict and other.best["curve"] == plain.best["curve"]
    assert other.breakpoint == pytest.approx(plain.breakpoint * scale)
    assert other.interval == pytest.approx([end * scale for end in plain.interval])
    assert other.tests["p"].tolist() == pytest.approx(plain.tests["p"].tolist(), abs=0.03)
    assert other.curves["model_score"].tolist() == pytest.approx(plain.curves["model_score"].tolist(), abs=1e-3)


def test_what_is_saved_loads_again_and_shows_the_same_picture(found: Threshold, tmp_path: Path) -> None:
    again = Threshold.load(found.save(tmp_path))
    assert again == found and again.sentences() == found.sentences()
    drawn, redrawn = found.plot(), again.plot()
    assert drawn.get_title() == redrawn.get_title() and "a threshold at" in drawn.get_title()
    long = replace(found, task="conjunction_elimination, 3 hops, clean, deductor-reason alone").plot()
    assert max(map(len, long.get_title().split("\n"))) <= 64
    for first, second in zip(drawn.get_lines(), redrawn.get_lines(), strict=True):
        assert np.array_equal(first.get_xydata(), second.get_xydata())
    assert drawn.get_xscale() == "log" and drawn.get_ylabel() == "accuracy, % of questions"
    assert ck.plots.save(drawn, tmp_path / "threshold.png").stat().st_size > 10_000


def test_a_file_that_is_cut_short_is_named(found: Threshold, tmp_path: Path) -> None:
    path = found.save(tmp_path / "threshold.json")
    path.write_text(path.read_text()[:500])
    with pytest.raises(ValueError, match=r"threshold\.json: not a threshold that can be read"):
        Threshold.load(path)
    with pytest.raises(FileNotFoundError, match="no such result"):
        Threshold.load(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parameters": -1e9}, "m3: a model cannot have -1e"),
        ({"parameters": np.nan}, "m3: parameters is nan, which is no number"),
        ({"parameters": "1.6B"}, "m3: parameters is '1.6B', which is no number"),
        ({"correct": 401}, "m3: 401 correct of 400 answers is impossible"),
        ({"correct": 0.4}, "m3: 0.4 correct of 400; give whole numbers of answers, not shares"),
        ({"correct": np.nan}, "m3: correct is nan"),
        ({"total": 0}, "m3: .* correct of 0"),
        ({"family": None}, "m3 has no family"),
        ({"model": ""}, "row 3 of the table has no model name"),
        ({"model": "m2"}, "m2 stands twice in the table"),
        ({"unparseable": 400}, "m3: 400.* unparseable beside"),
    ],
)
def test_a_bad_row_is_named(change: dict[str, object], message: str) -> None:
    table = planted(step, 0, models=8).assign(unparseable=0).astype(object)
    table.loc[3, list(change)] = list(change.values())
    with pytest.raises(ThresholdError, match=message):
        find(table, progress=False)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (planted(step, 0, models=1), "1 model of 1 different size: a threshold needs 4 sizes"),
        (planted(step, 0, models=8).assign(parameters=1e9), "8 models of 1 different size"),
        (planted(step, 0, models=3), "3 models of 3 different sizes"),
        (planted(step, 0, models=8).drop(columns="family"), "no column 'family'"),
        (planted(step, 0, models=8).iloc[:0], "0 models"),
    ],
)
def test_a_table_in_which_nothing_can_be_found_is_refused(table: pd.DataFrame, message: str) -> None:
    with pytest.raises(ThresholdError, match=message):
        find(table, progress=False)


def test_impossible_settings_are_refused() -> None:
    table = planted(step, 0, models=8)
    with pytest.raises(ThresholdError, match="a chance of 20 is none"):
        find(table, chance=20, progress=False)
    with pytest.raises(ThresholdError, match="5 draws tell no p under"):
        find(table, draws=5, progress=False)
