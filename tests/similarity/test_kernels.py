"""CKA equals its definition by Gram matrices, does not change under what it must not, and is exact over batches."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuitkit.similarity import RunningCKA, cka


def drawn(seed, n, *widths, offset=0.0):
    noise = torch.Generator().manual_seed(seed)
    return [torch.randn(n, width, generator=noise, dtype=torch.float64) + offset for width in widths]


def by_gram_matrices(x, y, debiased):
    """Kornblith et al. 2019, equation 3, and Song et al. 2012, equation 5, word for word."""
    n = len(x)
    ones = torch.ones(n, dtype=torch.float64)

    def hsic(k, m):
        if not debiased:
            h = torch.eye(n, dtype=torch.float64) - torch.outer(ones, ones) / n
            return torch.trace(k @ h @ m @ h) / (n - 1) ** 2
        k, m = k - torch.diag(torch.diag(k)), m - torch.diag(torch.diag(m))
        inner = torch.trace(k @ m) + (ones @ k @ ones) * (ones @ m @ ones) / ((n - 1) * (n - 2))
        return (inner - 2 / (n - 2) * ones @ k @ m @ ones) / (n * (n - 3))

    k, m = x @ x.T, y @ y.T
    return float(hsic(k, m) / math.sqrt(hsic(k, k) * hsic(m, m)))


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(5, 30), st.integers(1, 12), st.integers(1, 12), st.booleans())
def test_the_sums_give_what_the_gram_matrices_give(seed, n, wide, narrow, debiased):
    x, y = drawn(seed, n, wide, narrow, offset=3.0)
    y[:, 0] += 2 * x[:, 0]
    reference = by_gram_matrices(x, y, debiased)
    assert cka(x, y, debiased=debiased) == pytest.approx(reference, rel=1e-8, abs=1e-8)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(8, 40), st.integers(1, 20), st.booleans())
def test_batches_of_any_size_give_the_same_number(seed, n, size, debiased):
    x, y = drawn(seed, n, 6, 3)
    y = y + x[:, :3]
    running = RunningCKA()
    for start in range(0, n, size):
        running.add(x[start : start + size], y[start : start + size])
    assert running.n == n
    assert running.value(debiased=debiased) == pytest.approx(cka(x, y, debiased=debiased), rel=1e-9, abs=1e-9)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 100), st.booleans())
def test_rotating_shifting_and_scaling_change_nothing(seed, scale, debiased):
    x, y = drawn(seed, 25, 7, 4)
    y = y + x[:, :4]
    turn = torch.linalg.qr(drawn(seed + 1, 7, 7)[0]).Q
    moved = scale * (x @ turn) + 5.0
    assert cka(moved, y, debiased=debiased) == pytest.approx(cka(x, y, debiased=debiased), rel=1e-7, abs=1e-7)
    assert cka(x, moved, debiased=debiased) == pytest.approx(1.0, abs=1e-7)


def test_unrelated_representations_are_near_nought_only_without_the_bias():
    found = [cka(*drawn(seed, 60, 50, 50)) for seed in range(40)]
    plain = [cka(*drawn(seed, 60, 50, 50), debiased=False) for seed in range(40)]
    assert abs(sum(found) / 40) < 0.02
    assert min(plain) > 0.4


def test_a_large_offset_costs_no_digits():
    x, y = drawn(3, 50, 6, 6)
    assert cka(x + 1e6, y + x - 1e6) == pytest.approx(cka(x, y + x), abs=1e-6)


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (torch.randn(5, 2), torch.randn(6, 2), "same examples"),
        (torch.randn(5), torch.randn(5), "example, feature"),
        (torch.randn(3, 2), torch.randn(3, 2), "4 examples at least; got 3"),
        (torch.ones(8, 2), torch.randn(8, 2), "alike for all examples"),
        (torch.full((8, 2), float("nan")), torch.randn(8, 2), "NaN or infinity"),
    ],
)
def test_what_has_no_alignment_is_refused(x, y, said):
    with pytest.raises(ValueError, match=said):
        cka(x, y)


def test_a_batch_of_other_features_is_refused():
    running = RunningCKA()
    running.add(*drawn(0, 5, 3, 2))
    with pytest.raises(ValueError, match=r"4 and 2 features among batches of \(3, 2\)"):
        running.add(*drawn(0, 5, 4, 2))
