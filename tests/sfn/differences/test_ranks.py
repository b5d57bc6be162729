"""Stable ranks by blocks against those of all singular values."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuitkit.sfn.differences import ranks
from circuitkit.sfn.differences.ranks import largest_squared, stable_rank


def drawn(seed, rows, columns, directions=0):
    noise = torch.Generator().manual_seed(seed)
    matrix = torch.randn(rows, columns, generator=noise, dtype=torch.float64)
    if directions:
        matrix += (
            0.5
            * torch.randn(rows, directions, generator=noise, dtype=torch.float64)
            @ torch.randn(directions, columns, generator=noise, dtype=torch.float64)
        )
    return matrix


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 60), st.integers(1, 40))
def test_small_matrices_by_blocks_of_any_size(seed, rows, columns, size):
    matrix = drawn(seed, rows, columns)
    expected = torch.linalg.matrix_norm(matrix, 2).item() ** 2
    assert largest_squared(lambda: iter(matrix.split(size)), columns) == pytest.approx(expected, rel=1e-9)
    singular = torch.linalg.svdvals(matrix)
    assert stable_rank(matrix) == pytest.approx(float(singular.square().sum() / singular[0] ** 2), rel=1e-9)


@pytest.mark.parametrize("directions", [0, 3])
@pytest.mark.parametrize("shape", [(600, 300), (300, 600), (1200, 257)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_vectors_find_what_the_singular_values_say(shape, directions, dtype):
    matrix = drawn(sum(shape), *shape, directions)
    expected = torch.linalg.matrix_norm(matrix, 2).item() ** 2
    found = largest_squared(lambda: iter(matrix.to(dtype).split(100)), shape[1])
    assert found == pytest.approx(expected, rel=3e-6)


def test_a_single_direction_and_nothing_at_all():
    line = torch.outer(torch.arange(1.0, 401), torch.arange(1.0, 301)).double()
    assert largest_squared(lambda: iter(line.split(64)), 300) == pytest.approx(float(line.square().sum()), rel=1e-9)
    assert largest_squared(lambda: iter([torch.zeros(5, 300)]), 300) == 0
    assert stable_rank(torch.zeros(3, 300)) != stable_rank(torch.zeros(3, 300))  # NaN


def test_equal_singular_values_end_at_once():
    assert stable_rank(torch.eye(400)) == pytest.approx(400)


def test_too_few_passes_are_told(monkeypatch):
    monkeypatch.setattr(ranks, "_MOST_STEPS", 3)
    matrix = drawn(0, 300, 300)
    with pytest.raises(ArithmeticError, match="not found to 1e-06 in 3 passes"):
        largest_squared(lambda: iter([matrix]), 300)
