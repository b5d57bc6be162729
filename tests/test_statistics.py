"""The statistics against SciPy, closed forms, brute force, and simulated data whose truth is known."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from circuitkit.statistics import (
    against_controls,
    benjamini_hochberg,
    bootstrap_mean,
    effect_size,
    holm,
    jaccard,
    matched_control,
    matched_heads,
    sign_flip_test,
    wilson,
)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(max_examples=50, deadline=None)
def test_wilson_agrees_with_scipy(counts: tuple[int, int]) -> None:
    successes, trials = counts
    oracle = stats.binomtest(successes, trials).proportion_ci(0.9, method="wilson")
    assert wilson(successes, trials, level=0.9) == pytest.approx((oracle.low, oracle.high), abs=1e-9)


def test_wilson_by_hand_and_what_it_refuses() -> None:
    z = stats.norm.ppf(0.975)
    assert wilson(0, 10).high == pytest.approx(z**2 / (10 + z**2))
    # No rounding error stands for 0 or 1, which tables would show.
    assert [wilson(0, n).low for n in (6, 10, 60)] == [0.0] * 3 and [wilson(n, n).high for n in (6, 33)] == [1.0] * 2
    for bad in [(3, 2), (-1, 2), (0, 0)]:
        with pytest.raises(ValueError, match="no proportion"):
            wilson(*bad)
    with pytest.raises(ValueError, match="level"):
        wilson(1, 2, level=95)


def test_bootstrap_agrees_with_scipys_bca() -> None:
    values = np.random.default_rng(1).exponential(size=(3, 40))
    low, high = bootstrap_mean(values, seed=0, draws=20_000)
    for cell in range(3):
        oracle = stats.bootstrap(
            (values[cell],), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(5)
        ).confidence_interval
        assert low[cell] == pytest.approx(oracle.low, abs=0.02)
        assert high[cell] == pytest.approx(oracle.high, abs=0.03)


def test_bootstrap_covers_the_truth_about_as_often_as_it_says() -> None:
    values = np.random.default_rng(0).normal(2.0, 3.0, size=(600, 30))
    low, high = bootstrap_mean(values, seed=0, draws=500, level=0.9)
    assert 0.84 < np.mean((low < 2.0) & (high > 2.0)) < 0.94


def test_clusters_widen_the_interval_as_much_as_they_should() -> None:
    rng = np.random.default_rng(0)
    shared = np.repeat(rng.normal(size=(400, 20)), 10, axis=1)
    values = shared + 0.1 * rng.normal(size=shared.shape)
    groups = np.repeat(np.arange(20), 10).tolist()
    low, high = bootstrap_mean(values, seed=0, draws=400, groups=groups)
    assert 0.88 < np.mean((low < 0) & (high > 0)) < 0.98
    naive_low, naive_high = bootstrap_mean(values, seed=0, draws=400)
    assert np.mean((naive_low < 0) & (naive_high > 0)) < 0.65


@given(st.lists(st.integers(1, 9), min_size=2, max_size=6), st.integers(0, 999))
@settings(max_examples=25, deadline=None)
def test_means_of_unequal_clusters_stay_among_the_values(sizes: list[int], seed: int) -> None:
    values = 100 + np.random.default_rng(seed).normal(size=sum(sizes))
    groups = np.repeat(np.arange(len(sizes)), sizes).tolist()
    low, high = bootstrap_mean(values, seed=seed, draws=200, groups=groups)
    assert values.min() - 1e-9 <= low <= high <= values.max() + 1e-9


def test_a_p_value_from_draws_is_never_zero() -> None:
    test = sign_flip_test(np.full((2, 40), 3.0), seed=0, draws=99)
    assert test.p.tolist() == test.p_corrected.tolist() == [0.01, 0.01] and test.smallest == 0.01


def test_groups_of_one_are_no_groups() -> None:
    values = np.random.default_rng(0).normal(size=(2, 9))
    alone, grouped = bootstrap_mean(values, seed=3), bootstrap_mean(values, seed=3, groups=list("abcdefghi"))
    assert np.allclose(alone, grouped)
    assert np.array_equal(sign_flip_test(values, seed=3).p, sign_flip_test(values, seed=3, groups=torch.arange(9)).p)


@given(st.lists(st.integers(1, 3), max_size=3), st.integers(2, 8), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_shapes_follow_the_cells_and_missing_cells_stay_missing(cells: list[int], examples: int, seed: int) -> None:
    values = torch.randn(*cells, examples, generator=torch.Generator().manual_seed(seed))
    test = sign_flip_test(values, seed=seed, draws=200)
    low, high = bootstrap_mean(values, seed=seed, draws=100)
    for array in (test.p, test.p_corrected, low, high):
        assert array.shape == tuple(cells) and np.isfinite(array).all()
    assert (low <= high).all() and (test.p <= test.p_corrected).all()
    with_gap = torch.cat([values[None], torch.full_like(values, torch.nan)[None]])
    gap_test, gap_interval = sign_flip_test(with_gap, seed=seed, draws=200), bootstrap_mean(with_gap, seed=seed)
    assert np.array_equal(gap_test.p_corrected[0], test.p_corrected)
    assert np.isnan(gap_test.p_corrected[1]).all() and np.isnan(gap_interval.low[1]).all()


def test_a_cell_whose_examples_are_alike_has_an_interval_of_no_width() -> None:
    low, high = bootstrap_mean(np.array([[0.1] * 7, [0.0] * 7]), seed=0)
    assert low.tolist() == high.tolist() == [0.1, 0.0]


def test_sign_flips_counted_in_full_agree_with_scipy_and_brute_force() -> None:
    values = np.random.default_rng(4).normal(0.6, 1.0, size=(3, 8))
    test = sign_flip_test(values, seed=0)
    assert test.smallest == 2 / 2**8
    for cell in range(3):
        oracle = stats.permutation_test((values[cell],), np.mean, permutation_type="samples", n_resamples=np.inf)
        assert test.p[cell] == pytest.approx(oracle.pvalue)
    flips = np.array(list(itertools.product([1, -1], repeat=8)))
    t = stats.ttest_1samp(flips[:, None, :] * values, 0.0, axis=-1).statistic
    observed = np.abs(stats.ttest_1samp(values, 0.0, axis=-1).statistic)
    best = observed.argmax()
    single_step = np.mean(np.abs(t).max(1) >= observed[best] - 1e-9)
    assert test.p_corrected[best] == pytest.approx(single_step)
    worst = observed.argmin()
    others = np.delete(np.arange(3), [best, worst])[0]
    step = np.mean(np.abs(t)[:, [others, worst]].max(1) >= observed[others] - 1e-9)
    assert test.p_corrected[others] == pytest.approx(max(step, single_step))


def test_max_t_holds_its_error_over_many_correlated_null_cells() -> None:
    rng = np.random.default_rng(0)
    false_alarms, naive = 0, 0
    for study in range(200):
        shared = rng.normal(size=(1, 16))
        test = sign_flip_test(rng.normal(size=(30, 16)) + shared, seed=study, draws=300)
        false_alarms += test.p_corrected.min() < 0.05
        naive += test.p.min() < 0.05
    assert false_alarms / 200 < 0.09
    assert naive / 200 > 0.3


def test_max_t_finds_a_planted_effect_among_louder_noise() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(5, 6, 24)) * np.array([1, 10, 100, 1, 1])[:, None, None]
    values[3, 2] += 2.0
    found = np.argwhere(sign_flip_test(values, seed=0, draws=2000).p_corrected < 0.05)
    assert found.tolist() == [[3, 2]]


def test_grouped_sign_flips_do_not_count_copies_as_evidence() -> None:
    one = np.random.default_rng(2).normal(0.5, 1.0, size=10)
    copies = np.repeat(one, 20)[None]
    groups = np.repeat(np.arange(10), 20).tolist()
    grouped = sign_flip_test(copies, seed=0, groups=groups).p[0]
    assert grouped == pytest.approx(sign_flip_test(one[None], seed=0).p[0])
    assert sign_flip_test(copies, seed=0).p[0] < grouped


def test_seeds_repeat_and_differ() -> None:
    values = np.random.default_rng(0).normal(0.2, 1, size=(4, 40))
    assert np.array_equal(sign_flip_test(values, seed=1).p, sign_flip_test(values, seed=1).p)
    assert not np.array_equal(sign_flip_test(values, seed=1).p, sign_flip_test(values, seed=2).p)
    assert np.array_equal(bootstrap_mean(values, seed=1).low, bootstrap_mean(values, seed=1).low)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
@settings(max_examples=40, deadline=None)
def test_benjamini_hochberg_by_its_definition(p: list[float]) -> None:
    adjusted = benjamini_hochberg(np.array(p))
    n, ranked = len(p), sorted(p)
    expected = [min(min(1.0, ranked[j] * n / (j + 1)) for j in range(ranked.index(x), n)) for x in p]
    assert adjusted == pytest.approx(expected)


@given(st.lists(st.one_of(st.floats(0, 1), st.just(np.nan)), max_size=20))
@settings(max_examples=40, deadline=None)
def test_holm_by_its_definition(p: list[float]) -> None:
    ranked = sorted(x for x in p if x == x)
    n = len(ranked)
    expected = [max(min(1.0, ranked[j] * (n - j)) for j in range(ranked.index(x) + 1)) if x == x else np.nan for x in p]
    assert holm(np.array(p)) == pytest.approx(expected, nan_ok=True)


def test_holm_keeps_the_shape_and_refuses_what_is_no_p_value() -> None:
    assert holm(torch.tensor([[0.01], [0.5]])).tolist() == pytest.approx(np.array([[0.02], [0.5]]))
    for bad in (-0.1, 1.1):
        with pytest.raises(ValueError, match="between 0 and 1"):
            holm(np.array([0.5, bad]))


def test_hedges_g_by_its_gamma_function() -> None:
    values = np.random.default_rng(0).normal(1.0, 2.0, size=(2, 10))
    d = values.mean(1) / values.std(1, ddof=1)
    # the usual approximation 1 − 3/(4 df − 1) is good to 1e-3 at df = 9
    assert effect_size(values) == pytest.approx(d * (1 - 3 / (4 * 9 - 1)), rel=1e-3)
    assert effect_size(np.full((1, 4), -2.0)).tolist() == [-np.inf]
    assert np.isnan(effect_size(np.zeros((1, 4)))).all()


def test_hedges_g_is_unbiased_where_cohens_d_is_not() -> None:
    values = np.random.default_rng(0).normal(1.0, 1.0, size=(20_000, 6))
    assert effect_size(values).mean() == pytest.approx(1.0, abs=0.02)
    assert (values.mean(1) / values.std(1, ddof=1)).mean() > 1.1


def test_jaccard() -> None:
    assert jaccard({1, 2, 3}, {2, 3, 4}) == 0.5
    assert jaccard([1, 1], [1]) == 1.0
    assert jaccard([1], []) == 0.0
    with pytest.raises(ValueError, match="both sets are empty"):
        jaccard([], [])


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_matched_heads_match_in_layer_and_number(data: st.DataObject) -> None:
    n_heads = data.draw(st.lists(st.integers(2, 8), min_size=1, max_size=4))
    chosen = {
        (layer, head)
        for layer, n in enumerate(n_heads)
        for head in data.draw(st.sets(st.integers(0, n - 1), max_size=n // 2))
    } or {(0, 0)}
    draws = data.draw(st.integers(1, 30))
    sets = matched_heads(chosen, n_heads, draws=draws, seed=0)
    assert 1 <= len(sets) <= draws and len(set(sets)) == len(sets)
    for one in sets:
        assert sorted(layer for layer, _ in one) == sorted(layer for layer, _ in chosen)
        assert not set(one) & chosen and len(set(one)) == len(chosen)
        assert all(0 <= head < n_heads[layer] for layer, head in one)
        assert list(one) == sorted(one)


def test_matched_heads_are_drawn_evenly() -> None:
    drawn = [matched_heads([(0, 0)], [41], draws=1, seed=seed)[0][0][1] for seed in range(800)]
    counts = np.bincount(drawn, minlength=41)[1:]
    assert counts.sum() == 800 and stats.chisquare(counts).pvalue > 0.001


def test_too_few_other_heads_is_an_error_with_a_way_out() -> None:
    heads = [(1, 0), (1, 1), (1, 2)]
    with pytest.raises(ValueError, match=r"layer 1 has 1 heads outside the set.*disjoint=False"):
        matched_heads(heads, [4, 4], draws=5, seed=0)
    sets = matched_heads(heads, [4, 4], draws=5, seed=0, disjoint=False)
    assert len(sets) == 3 and tuple(heads) not in sets
    with pytest.raises(ValueError, match="every head of its layers"):
        matched_heads([(0, 0), (0, 1)], [2], draws=5, seed=0, disjoint=False)
    with pytest.raises(ValueError, match="head 4 of layer 0 does not exist"):
        matched_heads([(0, 4)], [4], draws=5, seed=0)


def test_a_planted_head_stands_out_from_its_layer_and_a_common_one_does_not() -> None:
    effects = torch.randn(4, 24, generator=torch.Generator().manual_seed(0)) * 0.1
    effects[2, 7] = -3.0
    effects[0] += 5.0
    planted = matched_control(effects, [(2, 7)], seed=0)
    assert planted.p == 1 / 24 and planted.observed == pytest.approx(-3.0)
    assert len(planted.controls) == 23 and planted.low > -1
    # a whole layer with large effects: its heads are large, but not for their layer
    assert matched_control(effects, [(0, 3)], seed=0).p > 0.05


def test_controls_leave_out_heads_that_a_layer_lacks() -> None:
    effects = np.array([[1.0, 2.0, np.nan, np.nan], [0.1, 0.2, 0.3, 0.4]])
    assert sorted(matched_control(effects, [(0, 1)], seed=0).controls) == [1.0]
    with pytest.raises(ValueError, match="does not exist"):
        matched_control(effects, [(0, 2)], seed=0)
    with pytest.raises(ValueError, match="before a layer's last head"):
        matched_control(np.array([[np.nan, 1.0]]), [(0, 0)], seed=0)


def test_against_controls_counts_the_set_itself() -> None:
    control = against_controls(1.0, [0.5, -1.0, 2.0, 0.0])
    assert control.p == 3 / 5 and control.mean == pytest.approx(0.375)
    with pytest.raises(ValueError, match="at least one"):
        against_controls(1.0, [])


@pytest.mark.parametrize("test", [sign_flip_test, bootstrap_mean])
def test_what_cannot_be_tested_is_refused(test: object) -> None:
    assert callable(test)
    with pytest.raises(ValueError, match="at least two examples"):
        test(np.ones((2, 1)), seed=0)
    with pytest.raises(ValueError, match="at least two groups"):
        test(np.ones((2, 3)), seed=0, groups=[1, 1, 1])
    with pytest.raises(ValueError, match="2 groups for 3 examples"):
        test(np.ones((2, 3)), seed=0, groups=[1, 2])
    with pytest.raises(ValueError, match="NaN or infinite"):
        test(np.array([[1.0, np.nan]]), seed=0)
