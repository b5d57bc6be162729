"""The published tables of Shao & Wu: whole, with intervals, and what their differences can bear."""

import json
import os
from pathlib import Path

import pandas as pd
import pytest
import who_reasons
from scipy.stats import binomtest, norm
from stethoscope import published, published_figures
from stethoscope.published import BENCHMARKS, FAULTS, TRAINED, contrasts, freeze_table, merge_table


@pytest.fixture(scope="module")
def merges() -> pd.DataFrame:
    return merge_table()


@pytest.fixture(scope="module")
def of_merges(merges: pd.DataFrame) -> pd.DataFrame:
    return contrasts(merges, "merged", ["benchmark"])


def test_the_tables_are_the_shared_ones() -> None:
    if not (data := os.environ.get("CIRCUITKIT_DATA")):
        pytest.skip("CIRCUITKIT_DATA is not set: it names the folder with published/sfn.json")
    shared = json.loads((Path(data) / "published" / "sfn.json").read_text(encoding="utf-8"))
    own = published.read()
    assert {name: own[name] for name in ("merge", "freeze", "destruction")} == {
        name: shared[name] for name in ("merge", "freeze", "destruction")
    }


def test_the_tables_say_where_they_are_from() -> None:
    told = published.read()
    assert "arXiv 2505.20993" in told["source"] and len(told["notes"]) == 4


def test_every_accuracy_is_a_whole_number_of_right_answers(merges: pd.DataFrame) -> None:
    told = published.read()
    printed = [row["accuracy"] for row in told["merge"]["rows"]]
    printed += [row[key] for row in told["freeze"] for key in BENCHMARKS]
    found = pd.concat([merges, freeze_table()])
    assert len(found) == len(printed) == 5 + 2 * 5 * 3
    # Some of the printed shares are cut off rather than rounded.
    assert (abs(found["accuracy"] - printed) < 1e-3).all()
    assert merges.set_index("merged")["right"].to_dict() == {
        "none (A)": 2, "o_proj": 6, "q, k, v": 0, "mlp": 0, "all (B)": 7
    }  # fmt: skip


def test_intervals_are_wilsons(merges: pd.DataFrame) -> None:
    z = norm.ppf(0.975)
    for row in merges.to_dict("records"):
        n, share = row["n"], row["right"] / row["n"]
        centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z / (1 + z**2 / n) * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
        assert (row["low"], row["high"]) == pytest.approx((centre - half, centre + half), abs=1e-9)


def test_p_lies_between_the_ends_whatever_the_overlap_is(of_merges: pd.DataFrame) -> None:
    trainings = contrasts(freeze_table(), "trained", ["model", "benchmark"])
    assert (len(of_merges), len(trainings)) == (10, 6 * 10)
    for row in pd.concat([of_merges, trainings[trainings["n"] < 500]]).to_dict("records"):
        first, second, n = row["right_first"], row["right_second"], row["n"]
        every = []
        for both in range(max(0, first + second - n), min(first, second) + 1):
            split = first + second - 2 * both
            every.append(binomtest(first - both, split).pvalue if split else 1.0)
        assert row["p_least"] == pytest.approx(min(every)) and row["p_most"] == pytest.approx(max(every), abs=0.03)
        assert row["low"] <= row["difference"] <= row["high"]


def test_the_gain_of_grafting_o_proj_is_not_borne_by_thirty_problems(of_merges: pd.DataFrame) -> None:
    gain = of_merges.set_index(["first", "second"]).loc["none (A)", "o_proj"]
    assert gain["right_second"] - gain["right_first"] == 4
    assert (gain["p_least"], gain["p_most"]) == (0.125, pytest.approx(74 / 256))
    assert gain["low"] < 0 < gain["high"]
    assert (of_merges["p_most"] < 0.05).sum() == 4 and not (of_merges["p_most_corrected"] < 0.05).any()
    said = published.said_of_merges(merge_table(), of_merges)
    assert "the table cannot bear it at 0.05" in said[1] and "4 differ" in said[2] and "0 do" in said[2]


def test_what_the_table_of_trainings_bears_is_said() -> None:
    found = contrasts(freeze_table(), "trained", ["model", "benchmark"])
    said = published.said_of_freezing(freeze_table(), found)
    assert len(said) == 6 + 1 and "lowers 4 of 6 scores" in said[-1]
    o, always = TRAINED["embed,lm_head,norm,o_proj"], TRAINED["embed,lm_head,norm"]
    sure = found[(found["p_most_corrected"] < 0.05) & (found["second"] == o)]
    assert set(zip(sure["first"], sure["benchmark"], strict=True)) == {(always, "MATH-500")}
    assert all("+13.4 points to F1: always" in line or "MATH-500" not in line or "14B" in line for line in said[:6])


def test_zeros_leave_three_models_and_the_levels_agree_with_that() -> None:
    zero = published.read()["destruction"]["levels"]["zero"]
    for same in (("q_proj", "k_proj"), ("v_proj", "o_proj"), ("gate_proj", "up_proj", "down_proj")):
        assert len({zero[name] for name in same}) == 1
    assert "three models in seven cells" in FAULTS[-1]


def test_a_figure_shows_every_row() -> None:
    merges, trainings = published_figures.merges(merge_table()), published_figures.trainings(freeze_table())
    accuracy, tokens = merges.axes
    shown = [float(value) for line in accuracy.lines for value in line.get_ydata()]
    assert sorted(shown) == pytest.approx(sorted(100 * merge_table()["accuracy"]))
    assert [patch.get_height() for patch in tokens.patches] == merge_table()["tokens"].tolist()
    marks = [float(value) for axes in trainings.axes for line in axes.lines for value in line.get_ydata()]
    assert sorted(marks) == pytest.approx(sorted(100 * freeze_table()["accuracy"]))
    levels = [text.get_text() for text in published_figures.destruction(published.destruction_table()).axes[0].texts]
    assert levels.count("I") == 11 and levels.count("II") == 1 and levels.count("III") == 3


def test_the_script_draws_the_published_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    who_reasons.main(out=tmp_path, published=True)
    names = {path.name for path in tmp_path.iterdir()}
    assert {f"table_{name}.png" for name in ("1_merge", "2_freeze", "3_destruction")} < names
    assert {"table_1_contrasts.csv", "table_2_contrasts.csv", "sentences.md", "provenance.json"} < names
    said = (tmp_path / "sentences.md").read_text(encoding="utf-8")
    assert all(fault in said for fault in FAULTS) and "Table 3: level III is left by v_proj (zero)" in said
    assert "cannot bear it" in capsys.readouterr().out
