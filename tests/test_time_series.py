"""Curves that move together: planted, drifting by chance, and bad input."""

import numpy as np
import pytest

from circuitkit.statistics import block_permutation_test


def drifting(rng: np.random.Generator, n: int, memory: float) -> np.ndarray:
    curve = np.zeros(n)
    for at in range(1, n):
        curve[at] = memory * curve[at - 1] + rng.normal()
    return curve


def test_curves_that_drift_apart_from_each_other_are_found_together_no_more_often_than_p_says():
    rng = np.random.default_rng(0)
    found = {None: 0, 1: 0}
    for _ in range(60):
        first, second = ([drifting(rng, 40, 0.9) for _ in range(2)] for _ in range(2))
        for block in found:
            found[block] += block_permutation_test(first, second, block=block, seed=0, draws=199).p <= 0.05
    assert found[None] <= 9
    # Points that change places alone make false finds of a third of them.
    assert found[1] >= 15


def test_curves_that_move_together_are_found_together():
    rng = np.random.default_rng(0)
    first = [drifting(rng, 40, 0.7) for _ in range(3)]
    second = [2 * one + rng.normal(size=40) for one in first]
    found = block_permutation_test(first, second, seed=0, draws=999)
    assert found.correlation > 0.7 and found.p < 0.01 and found.block > 1


def test_the_correlation_is_the_mean_over_runs_and_a_run_that_stands_still_is_left_out():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 2, 12))
    found = block_permutation_test(first, second, block=2, seed=0, draws=99)
    expected = np.mean([np.corrcoef(one, other)[0, 1] for one, other in zip(first, second, strict=True)])
    assert found.correlation == pytest.approx(expected)
    still = block_permutation_test([*first, np.ones(12)], [*second, second[0]], block=2, seed=0, draws=99)
    assert (still.correlation, still.n_runs) == (pytest.approx(expected), 2)
    assert np.isnan(block_permutation_test([np.ones(8)], [np.arange(8.0)], seed=0).p)


def test_runs_that_are_copies_of_one_are_no_more_evidence_than_one():
    rng = np.random.default_rng(0)
    first, second = drifting(rng, 16, 0.5), drifting(rng, 16, 0.5)
    alone = block_permutation_test([first], [second], block=2, seed=0, draws=999)
    copies = block_permutation_test([first] * 4, [second] * 4, block=2, seed=0, draws=999)
    assert copies.p == pytest.approx(alone.p) and copies.smallest == alone.smallest
    apart = block_permutation_test([first] * 4, [second] * 4, block=2, seed=0, draws=999, together=False)
    assert apart.p < alone.p


def test_few_points_tell_how_small_p_can_be():
    found = block_permutation_test([np.arange(6.0)], [np.arange(6.0)], block=3, seed=0, draws=5000)
    assert found.smallest == pytest.approx(1 / 7) and found.p >= 0.1


@pytest.mark.parametrize(
    ("first", "second", "settings", "said"),
    [
        ([np.arange(5.0)], [], {}, "two curves a run"),
        ([np.arange(5.0)], [np.arange(6.0)], {}, "as many points"),
        ([np.arange(3.0)], [np.arange(3.0)], {}, "4 at least"),
        ([np.array([0, 1, np.nan, 2])], [np.arange(4.0)], {}, "not finite"),
        ([np.arange(6.0)], [np.arange(6.0)], {"block": 4}, "give 1 to 3"),
        ([np.arange(6.0), np.arange(5.0)], [np.arange(6.0), np.arange(5.0)], {}, "several lengths"),
    ],
)
def test_bad_curves_are_named(first, second, settings, said):
    with pytest.raises(ValueError, match=said):
        block_permutation_test(first, second, seed=0, **settings)
