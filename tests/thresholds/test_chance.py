"""The test against chance, and the signs of failure."""

import pandas as pd
import pytest
from scipy import stats

from circuitkit.thresholds import ThresholdError, judge_models


def table(**columns: object) -> pd.DataFrame:
    return pd.DataFrame({"model": ["a", "b", "c"], "correct": [30, 20, 27], "total": 100} | columns)


def test_each_model_has_an_exact_binomial_test_corrected_by_holm() -> None:
    judged = judge_models(table(), chance=0.2)
    exact = [stats.binomtest(k, 100, 0.2, alternative="greater").pvalue for k in (30, 20, 27)]
    assert judged["p_chance"].tolist() == pytest.approx(exact)
    smallest, second, largest = exact[0], exact[2], exact[1]
    holm = [3 * smallest, max(largest, 2 * second), 2 * second]
    assert judged["p_chance_corrected"].tolist() == pytest.approx([min(1, p) for p in holm])
    assert judged["above_chance"].tolist() == [True, False, False]


def test_more_than_16_per_cent_unparseable_is_a_failure_and_16_is_not() -> None:
    judged = judge_models(table(unparseable=[16, 17, 0]))
    assert judged["failures"].tolist() == ["", "17 % unparseable", ""]


def test_proof_by_contradiction_at_none_is_a_failure_of_that_task_alone() -> None:
    none = table(correct=[0, 1, 0])
    assert judge_models(none, task="prontoqa/proof_by_contradiction")["failures"].tolist() == [
        "proof by contradiction at 0 %",
        "",
        "proof by contradiction at 0 %",
    ]
    assert not judge_models(none, task="csqa")["failures"].any()
    tasks = none.assign(task=["proof_by_contradiction", "proof_by_contradiction", "implication_elimination"])
    assert judge_models(tasks)["failures"].tolist() == ["proof by contradiction at 0 %", "", ""]


def test_accuracy_at_and_under_chance_are_told_apart() -> None:
    judged = judge_models(table(correct=[60, 21, 3]), chance=0.2)
    assert judged["failures"].tolist() == ["", "at chance", "under chance"]


def test_more_unparseable_than_wrong_is_impossible() -> None:
    with pytest.raises(ThresholdError, match="a: 71 unparseable beside 30 correct of 100"):
        judge_models(table(unparseable=[71, 0, 0]))
