"""Two evaluations item by item, against statsmodels and by hand."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

import circuitkit as ck
from circuitkit.evaluation import Decoding, EvaluationError, compare
from circuitkit.statistics import mcnemar, paired_bootstrap, pass_at_k
from evaluation import toys


def test_mcnemar_is_the_binomial_test_of_what_differs():
    rng = np.random.default_rng(0)
    for _ in range(20):
        one, other = rng.random((2, 30)) < rng.random((2, 1))
        found = mcnemar(one, other)
        only = (one & ~other).sum(), (~one & other).sum()
        assert (found.only_first, found.only_second) == only
        expected = stats.binomtest(int(only[0]), int(sum(only)), 0.5).pvalue if sum(only) else 1.0
        assert found.p == pytest.approx(expected)
    with pytest.raises(ValueError, match="two verdicts an item"):
        mcnemar([True], [True, False])


def test_pass_at_k_is_the_share_of_all_draws():
    from itertools import combinations

    for n, c in ((5, 0), (5, 2), (6, 5), (4, 4)):
        right = [at < c for at in range(n)]
        for k in range(1, n + 1):
            draws = list(combinations(right, k))
            assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, draws)) / len(draws))
    with pytest.raises(ValueError, match="no chance"):
        pass_at_k(3, 1, 4)


def test_a_paired_interval_is_narrower_than_an_unpaired_one_and_holds_the_difference():
    rng = np.random.default_rng(1)
    hard = rng.random(200)
    one, other = (hard < 0.5).astype(float), (hard < 0.6).astype(float)
    value, low, high = paired_bootstrap(one, other, seed=0)
    assert value == pytest.approx(other.mean() - one.mean()) and low < value < high
    assert high - low < 2 * 1.96 * np.sqrt(one.var() / 200 + other.var() / 200)
    items = np.repeat(range(200), 3)
    clustered = paired_bootstrap(one[items], other[items], seed=0, groups=items.tolist())
    assert clustered.value == pytest.approx(value)
    assert clustered.high - clustered.low == pytest.approx(high - low, rel=0.15)


def test_evaluations_are_compared_on_the_items_that_both_asked():
    model, task = toys.model_of("llama"), toys.task(10)
    first = ck.evaluate(model, task, progress=False)
    second = ck.evaluate(model, task, [ck.zero("mlp_out[layer=1]")], limit=8, progress=False)
    found = compare(first, second)
    one, other = first.frame["says"][:8], second.frame["says"]
    assert found.n_items == 8 and found.test == "McNemar, exact"
    assert (found.first, found.second) == (one.mean(), other.mean())
    assert found.p == pytest.approx(mcnemar(one.to_numpy(), other.to_numpy()).p)
    assert compare(first, first).difference == 0 and compare(first, first).p == 1


def test_several_samples_are_compared_by_item():
    model, task, drawn = toys.model_of("llama"), toys.task(8), Decoding(temperature=1.0)
    first, second = (
        ck.evaluate(model, task, held, decoding=drawn, samples=3, progress=False)
        for held in ((), [ck.zero("mlp_out[layer=1]")])
    )
    found = compare(first, second)
    assert found.test == "signs of items flipped" and found.only_first is None
    assert found.difference == pytest.approx(second.accuracy.value - first.accuracy.value)


def test_what_cannot_be_compared_is_told():
    model = toys.model_of("llama")
    first = ck.evaluate(model, toys.task(4), progress=False)
    other = ck.evaluate(model, toys.task(4, seed=9), progress=False)
    with pytest.raises(EvaluationError, match="another question"):
        compare(first, other)
    renamed = tuple(replace(item, key=f"other {item.key}") for item in toys.task(4).items)
    with pytest.raises(EvaluationError, match="share 0 items"):
        compare(first, ck.evaluate(model, replace(toys.task(4), items=renamed), progress=False))
    with pytest.raises(EvaluationError, match="no judge 'strict'"):
        compare(first, first, judge="strict")
