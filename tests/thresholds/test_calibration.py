"""How often the search is right about a planted law, and how often it finds a threshold where none is."""

from collections.abc import Sequence

import pytest
from scipy import stats

from circuitkit.thresholds import Threshold, find
from planted_accuracy import Law, chance, hinge, logistic, planted, step, straight

pytestmark = pytest.mark.slow

TABLES, NOMINAL = 40, 0.05


def findings(law: Law, sure: float, n: int = TABLES) -> Sequence[Threshold]:
    return [
        find(planted(law, seed, models=20, families=5, sure=sure), draws=99, leave_out=False, progress=False)
        for seed in range(n)
    ]


@pytest.mark.parametrize("law", [logistic, straight, chance])
@pytest.mark.parametrize("sure", [float("inf"), 60.0])
def test_thresholds_that_are_none_are_found_at_the_nominal_rate_at_most(law: Law, sure: float) -> None:
    false = sum(found.verdict in ("threshold", "possible") for found in findings(law, sure))
    # More than so many would turn up once in a thousand times at the nominal rate.
    assert false <= stats.binom.ppf(0.999, TABLES, NOMINAL)


def test_a_flat_law_is_called_flat_as_often_as_the_level_says() -> None:
    flat = sum(found.verdict == "flat" for found in findings(chance, 60.0))
    assert flat >= stats.binom.ppf(0.001, TABLES, 1 - NOMINAL)


@pytest.mark.parametrize(("sure", "rate"), [(float("inf"), 0.95), (60.0, 0.6)])
def test_a_planted_step_is_called_a_threshold_and_placed(sure: float, rate: float) -> None:
    found = findings(step, sure, 40)
    assert sum(each.verdict == "threshold" for each in found) >= rate * 40
    assert sum(each.best["curve"] == "step" for each in found) >= 0.9 * 40
    assert sum(each.interval[0] <= 1e9 <= each.interval[1] for each in found) >= 0.85 * 40


def test_a_planted_hinge_is_called_a_threshold_and_placed() -> None:
    found = findings(hinge, float("inf"), 40)
    assert sum(each.verdict in ("threshold", "possible") for each in found) >= 0.75 * 40
    assert not sum(each.best["curve"] == "step" for each in found)
    assert sum(each.interval[0] <= 1e9 <= each.interval[1] for each in found) >= 0.85 * 40
