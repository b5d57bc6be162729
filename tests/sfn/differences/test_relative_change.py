"""Histograms of relative change by both formulas, against NumPy's, and what they leave out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from circuitkit.sfn.differences.relative_change import EDGES, Histogram, hollow, relative


def drawn(seed, n, zeros):
    rng = np.random.default_rng(seed)
    a, change = rng.normal(size=n), rng.normal(size=n) * rng.choice([0.01, 0.3, 2.0])
    a[rng.random(n) < zeros] = 0
    change[rng.random(n) < 0.2] = 0
    return a, change


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 500), st.sampled_from([0.0, 0.3]))
def test_the_papers_formula(seed, n, zeros):
    a, change = drawn(seed, n, zeros)
    found = Histogram.of(a, change, "paper")
    there = a != 0
    expected, _ = np.histogram(change[there] / a[there], EDGES)
    # A ratio on an edge may be counted on either side of it.
    assert np.abs(found.counts - expected).sum() <= 2
    assert found.zeros == (~there).sum()
    assert found.counts.sum() + found.zeros + found.beyond == n


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 500), st.sampled_from([0.0, 0.3]))
def test_the_codes_formula(seed, n, zeros):
    a, change = drawn(seed, n, zeros)
    found = Histogram.of(a, change, "code")
    clamped = np.clip(change / (np.abs(a) + 1e-8), -1, 1)
    expected, _ = np.histogram(clamped[np.abs(clamped) < 0.99], EDGES)
    assert np.abs(found.counts - expected).sum() <= 2
    assert found.counts[[0, -1]].sum() == 0
    assert found.zeros == ((a == 0) & (change != 0)).sum()
    assert found.counts.sum() + found.zeros + found.beyond == n


def test_the_formulas_differ_in_sign_at_negative_weights_and_at_the_edge():
    a, change = np.array([-1.0, -1.0, 1.0]), np.array([0.5, 0.995, 1.0])
    assert relative(a, change, "paper").tolist() == [-0.5, -0.995, 1.0]
    assert relative(a, change, "code") == pytest.approx([0.5, 0.995, 1.0])
    paper, code = (Histogram.of(a, change, formula) for formula in ("paper", "code"))
    assert (paper.beyond, code.beyond) == (0, 2)
    assert paper.counts[[0, 50, 199]].tolist() == [1, 1, 1]


def test_heights_are_counts_over_the_largest():
    found = Histogram.of(np.ones(10), np.array([0.0] * 8 + [0.5] * 2), "paper")
    assert found.heights.max() == 1 and found.heights[150] == 0.25
    assert len(found.edges) == 201 and len(found.counts) == 200
    assert Histogram.of(np.zeros(4), np.ones(4), "paper").heights.max() == 0


def test_a_hollow_is_measured_from_the_lower_peak():
    assert hollow(np.array([0, 10, 1, 3, 6, 0])) == pytest.approx(1 - 2 / 6)
    assert hollow(np.array([1, 5, 9, 9, 5, 1])) == 0
    assert hollow(np.array([0, 0, 0, 0])) == 0
