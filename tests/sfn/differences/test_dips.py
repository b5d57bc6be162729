"""The dip is that of linear programming, is what Hartigan's figures say, and errs as often as it is said to."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from circuitkit.sfn.differences.dips import chance_of_dip, dip


def by_linear_programming(values):
    """The least distance, over all places of the mode, to a function that is convex before it and concave after it."""
    places, counts = np.unique(values, return_counts=True)
    upto = np.cumsum(counts) / len(values)
    return min(_with_mode(mode, places, upto - counts / len(values), upto) for mode in range(len(places)))


def _with_mode(mode, places, below, upto):
    # The unknowns: heights up to the mode, that at the mode from its right and those after it, and the distance.
    n = len(places) + 2
    distance = n - 1
    left, right = list(range(mode + 1)), list(range(mode + 1, n - 1))
    rows, limits = [], []

    def at_most(limit, **terms):
        row = np.zeros(n)
        for name, factor in terms.items():
            row[int(name[1:])] += factor
        rows.append(row)
        limits.append(limit)

    def near(index, low, high):
        at_most(-low, **{f"x{index}": -1, f"x{distance}": -1})
        at_most(high, **{f"x{index}": 1, f"x{distance}": -1})

    for index in left[:-1]:
        near(index, upto[index], below[index])
    near(mode, below[mode], below[mode])
    near(mode + 1, upto[mode], upto[mode])
    at_most(0, **{f"x{mode}": 1, f"x{mode + 1}": -1})
    for index in right[1:]:
        near(index, upto[index - 1], below[index - 1])
    for side, at, sign in ((left, places[: mode + 1], 1), (right, places[mode:], -1)):
        for i in range(len(side) - 1):
            at_most(0, **{f"x{side[i]}": 1, f"x{side[i + 1]}": -1})
        for i in range(1, len(side) - 1):
            share = (at[i] - at[i - 1]) / (at[i + 1] - at[i - 1])
            before, here, after = (f"x{side[i + step]}" for step in (-1, 0, 1))
            at_most(0, **{here: sign, before: -sign * (1 - share), after: -sign * share})
    cost = np.zeros(n)
    cost[distance] = 1
    return linprog(cost, A_ub=np.array(rows), b_ub=np.array(limits), bounds=[(0, 1)] * n).fun


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(2, 14), st.sampled_from(["plain", "tied", "two modes"]))
def test_the_dip_is_the_least_distance_to_a_distribution_of_one_mode(seed, n, kind):
    values = np.random.default_rng(seed).normal(size=n)
    if kind == "tied":
        values = np.round(2 * values)
    if kind == "two modes":
        values[n // 2 :] += 4
    assert dip(values) == pytest.approx(by_linear_programming(values), abs=1e-8)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.floats(0.01, 100), st.floats(-10, 10))
def test_stretching_shifting_and_mirroring_change_nothing(seed, scale, shift):
    values = np.random.default_rng(seed).normal(size=200)
    assert dip(scale * values + shift) == pytest.approx(dip(values), abs=1e-9)
    assert dip(-values) == pytest.approx(dip(values), abs=1e-9)


def test_an_atom_at_the_mode_is_no_second_mode_and_one_beside_it_is():
    rng = np.random.default_rng(0)
    values = rng.normal(size=2000)
    at_zero, beside = (np.concatenate([values, np.full(1000, place)]) for place in (0.0, 3.0))
    assert dip(at_zero) < 0.01 < 0.05 < dip(beside)
    assert dip(np.full(7, 2.0)) == 0


@pytest.mark.parametrize("values", [np.array([]), np.array([1.0, np.nan]), np.array([1.0, np.inf])])
def test_what_has_no_dip_is_refused(values):
    with pytest.raises(ValueError, match="finite numbers"):
        dip(values)


def test_an_even_spread_is_called_two_modes_as_often_as_the_level_says():
    rng = np.random.default_rng(1)
    chances = np.array([chance_of_dip(dip(rng.uniform(size=1000)), 1000) for _ in range(600)])
    # Of 600 at 5 % about 30 ± 5.3; samples under the 8,192 of the table come out a little too rarely.
    assert 10 <= (chances < 0.05).sum() <= 46
    assert 0.4 < np.median(chances) < 0.65


def test_a_gaussian_is_hardly_ever_called_two_modes():
    rng = np.random.default_rng(2)
    assert sum(chance_of_dip(dip(rng.normal(size=1000)), 1000) < 0.05 for _ in range(300)) == 0
    far = [np.concatenate([rng.normal(-2, 1, 500), rng.normal(2, 1, 500)]) for _ in range(50)]
    assert all(chance_of_dip(dip(values), 1000) < 0.05 for values in far)


def test_chances_fall_from_one_to_a_ten_thousandth():
    sizes = np.linspace(0, 0.05, 200)
    chances = [chance_of_dip(size, 1000) for size in sizes]
    assert chances[0] == 1 and chances[-1] == pytest.approx(1e-4)
    assert all(one >= other for one, other in itertools.pairwise(chances))
