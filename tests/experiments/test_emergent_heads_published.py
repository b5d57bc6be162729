"""The published tables of Thinking Sparks: whole, with intervals, and what their differences can bear."""

import emergent_heads
import pandas as pd
import pytest
from emergence import published
from emergence.published import ALL, contrasts, score_table
from overlaps import held_against
from scipy.stats import binomtest


@pytest.fixture(scope="module")
def scores() -> pd.DataFrame:
    return score_table()


@pytest.fixture(scope="module")
def against(scores: pd.DataFrame) -> pd.DataFrame:
    return contrasts(scores)


def test_scores_are_counts_of_right_answers_or_means_over_samples(scores: pd.DataFrame) -> None:
    printed = {
        (name, row["model"], row["heads"], benchmark): row[benchmark]
        for name, table in published.read()["tables"].items()
        for row in table
        for benchmark in ("AIME24", "AIME25", "AMC", "GPQA", "MATH")
        if benchmark in row
    }
    assert len(scores) == len(printed) == 8 * 4 + 4 * 5 + 8 * 4 + 5 * 3
    for row in scores.to_dict("records"):
        score = printed[row["table"], row["model"], row["heads"], row["benchmark"]]
        assert 100 * row["score"] == pytest.approx(score, abs=0.1)
        assert row["low"] <= row["score"] <= row["high"]
        assert not row["whole"] or row["right"] == round(row["right"])
    # Every cell of Table 1 is one run's count; AMC's are of 83 problems.
    assert scores.loc[scores["table"] == "1", "whole"].all()
    assert scores.loc[(scores["benchmark"] == "AMC") & scores["whole"], "right"].tolist()[:3] == [55, 49, 44]


def test_p_lies_between_those_of_most_and_least_overlap() -> None:
    for first, second in ((9, 8), (12, 16), (9, 0), (4, 3)):
        told = held_against(first, second, 30)
        every = []
        for both in range(max(0, first + second - 30), min(first, second) + 1):
            split = first + second - 2 * both
            every.append(binomtest(first - both, split).pvalue if split else 1.0)
        assert told["p_least"] == pytest.approx(min(every)) and told["p_most"] == pytest.approx(max(every), abs=0.03)


def test_no_difference_in_the_large_models_is_borne(against: pd.DataFrame) -> None:
    single = against[against["benchmark"] != ALL]
    for model in ("R1-Distill-Qwen-7B", "Qwen2.5-Math-7B"):
        assert not (single.loc[single["model"] == model, "p_most"] < 0.05).any()
    gain = single.set_index(["model", "heads", "benchmark"]).loc["R1-Distill-Qwen-7B", "reasoning", "AIME24"]
    assert gain["right_second"] - gain["right_first"] == 4 and gain["low"] < 0 < gain["high"]


def test_what_is_borne_is_trivia_heads_of_the_small_models_sft_heads_and_thinking(against: pd.DataFrame) -> None:
    borne = against[against["p_most_corrected"] < 0.05]
    assert set(borne["heads"]) == {"TriviaQA", "SFT, ablated", "thinking on"}
    assert against.loc[against["benchmark"] == ALL, "p_most_corrected"].isna().all()


def test_the_tables_are_drawn_without_any_model(tmp_path, capsys) -> None:
    emergent_heads.main(out=tmp_path, published=True)
    assert {path.name for path in tmp_path.iterdir()} >= {
        "scores.csv", "contrasts.csv", "circuits.csv", "table_1.png", "table_5.png", "contrasts.png", "sentences.md",
        "provenance.json",
    }  # fmt: skip
    assert "12 more right" in capsys.readouterr().out
