"""How often the search is right about a planted law, and how often it finds a threshold where none is."""

from collections.abc import Sequence
from functools import cache

import pytest
from scipy import stats

from circuitkit.thresholds import Threshold, find
from planted_accuracy import Law, chance, hinge, logistic, planted, step, straight

pytestmark = pytest.mark.slow

TABLES, NOMINAL = 24, 0.05
SPREADS = {
    "questions alone": {},
    "models differ": {"sure": 60.0},
    "families differ": {"sure": 60.0, "alike": 0.6},
}
NONE = [(law, spread) for law in (logistic, straight, chance) for spread in ("questions alone", "families differ")]


@cache
def findings(law: Law, spread: str) -> Sequence[Threshold]:
    return [
        find(
            planted(law, seed, models=20, families=5, **SPREADS[spread]),
            draws=99,
            leave_out=False,
            progress=False,
        )
        for seed in range(TABLES)
    ]


def false_ones(law: Law, spread: str) -> int:
    return sum(found.verdict in ("threshold", "possible") for found in findings(law, spread))


@pytest.mark.parametrize(("law", "spread"), NONE)
def test_thresholds_that_are_none_are_found_at_the_nominal_rate_at_most(law: Law, spread: str) -> None:
    # More than so many would turn up once in a thousand times at the nominal rate.
    assert false_ones(law, spread) <= stats.binom.ppf(0.999, TABLES, NOMINAL)


def test_so_they_are_over_all_laws_together() -> None:
    assert sum(false_ones(*each) for each in NONE) <= stats.binom.ppf(0.999, TABLES * len(NONE), NOMINAL)


def test_a_flat_law_is_called_flat_as_often_as_the_level_says() -> None:
    flat = sum(found.verdict == "flat" for found in findings(chance, "questions alone"))
    assert flat >= stats.binom.ppf(0.001, TABLES, 1 - NOMINAL)


@pytest.mark.parametrize(("spread", "rate"), [("questions alone", 0.95), ("models differ", 0.6)])
def test_a_planted_step_is_called_a_threshold_and_placed(spread: str, rate: float) -> None:
    found = findings(step, spread)
    assert sum(each.verdict == "threshold" for each in found) >= rate * TABLES
    assert sum(each.best["curve"] == "step" for each in found) >= 0.9 * TABLES
    assert sum(each.interval[0] <= 1e9 <= each.interval[1] for each in found) >= 0.85 * TABLES


def test_a_planted_hinge_is_called_a_threshold_and_placed() -> None:
    found = findings(hinge, "questions alone")
    assert sum(each.verdict in ("threshold", "possible") for each in found) >= 0.75 * TABLES
    assert not sum(each.best["curve"] == "step" for each in found)
    assert sum(each.interval[0] <= 1e9 <= each.interval[1] for each in found) >= 0.85 * TABLES
