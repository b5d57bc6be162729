"""Differences of groups against closed forms, full enumeration and planted effects."""

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from circuitkit import statistics


def test_p_is_that_of_all_labellings():
    values = np.array([3.1, 2.9, 4.0, 1.0, 1.9, 0.5, 2.2])
    first = np.arange(7) < 3
    found = statistics.difference_of_groups(values, first, seed=0, draws=40_000)

    def welch(chosen: tuple[int, ...]) -> float:
        mine = np.isin(np.arange(7), chosen)
        return abs(stats.ttest_ind(values[mine], values[~mine], equal_var=False).statistic)

    all_of_them = [welch(chosen) for chosen in combinations(range(7), 3)]
    exact = np.mean([each >= welch((0, 1, 2)) - 1e-9 for each in all_of_them])
    assert float(found.p) == pytest.approx(exact, abs=0.01)
    assert float(found.difference) == pytest.approx(values[:3].mean() - values[3:].mean())
    assert found.low < found.difference < found.high


def test_the_planted_cell_survives_correction_and_no_other():
    rng = np.random.default_rng(3)
    cells = rng.normal(size=(4, 5, 60)) + 100
    first = np.arange(60) < 25
    cells[2, 3, first] += 1.5
    cells[3, 4] = np.nan
    found = statistics.difference_of_groups(cells, first, seed=0, draws=4000)
    assert [tuple(cell) for cell in np.argwhere(found.p_corrected < 0.05)] == [(2, 3)]
    real = ~np.isnan(found.p)
    assert (~real).sum() == 1 and (found.p_corrected >= found.p)[real].all()


def test_nothing_that_varies_is_no_difference():
    found = statistics.difference_of_groups(np.full((2, 6), 0.3), np.arange(6) < 3, seed=0, draws=200)
    assert found.p.tolist() == [1.0, 1.0] and found.difference.tolist() == [0.0, 0.0]


def test_false_alarms_are_as_many_as_promised():
    rng = np.random.default_rng(0)
    first = np.arange(20) < 8
    alarms = [
        (statistics.difference_of_groups(rng.normal(size=(6, 20)), first, seed=0, draws=300).p_corrected < 0.1).any()
        for _ in range(150)
    ]
    assert np.mean(alarms) < 0.18


def test_groups_that_are_too_small_are_refused():
    with pytest.raises(ValueError, match="got 1 and 3"):
        statistics.difference_of_groups(np.arange(4.0), [True, False, False, False], seed=0)
    with pytest.raises(ValueError, match="3 labels for 4 examples"):
        statistics.difference_of_groups(np.arange(4.0), [True, False, False], seed=0)
