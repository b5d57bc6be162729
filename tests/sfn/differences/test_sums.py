"""Sums over pieces of any length, of small changes and of large ones, against whole weights in float64."""

import math

import numpy as np
import pytest
import torch

from circuitkit.sfn.differences import widening
from circuitkit.sfn.differences.looking import Look, looked_at
from circuitkit.sfn.differences.sums import CHANGE, PRODUCT, A, B, Heads


def drawn(rows, columns, spread, dtype):
    noise = torch.Generator().manual_seed(rows + columns)
    a = torch.randn(rows, columns, generator=noise)
    b = a + spread * torch.randn(rows, columns, generator=noise)
    b[0, 0] = a[0, 0]
    return a.to(dtype), b.to(dtype)


def agrees(found, a, b):
    a, b = a.double().flatten().tolist(), b.double().flatten().tolist()
    change = [y - x for x, y in zip(a, b, strict=True)]
    expected = {A: (a, a), B: (b, b), CHANGE: (change, change), PRODUCT: (a, change)}
    for which, (one, other) in expected.items():
        exact = math.fsum(x * y for x, y in zip(one, other, strict=True))
        size = math.fsum(abs(x * y) for x, y in zip(one, other, strict=True))
        assert abs(float(found[which]) - exact) <= 1e-13 * size, which


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("spread", [1e-3, 0.3, 5.0])
@pytest.mark.parametrize("shape", [(1, 1), (1, 8192), (1, 20_001), (3, 8191), (70, 300), (9, 10_000)])
def test_sums_of_all(shape, spread, dtype, monkeypatch):
    monkeypatch.setattr(widening, "CHUNK", 1 << 13)
    a, b = drawn(*shape, spread, dtype)
    seen = looked_at(Look(*shape), a, b, 0)
    agrees(seen.sums[:, 0], a, b)
    assert seen.unchanged == int((a == b).sum()) > 0


@pytest.mark.parametrize("axis", [0, 1])
def test_one_head_of_many_may_have_changed_much(axis, monkeypatch):
    monkeypatch.setattr(widening, "CHUNK", 100)
    a, b = drawn(12, 40, 1e-3, torch.float32)
    shares = [torch.tensor_split(each, 4, axis) for each in (a, b)]
    shares[1][2].neg_()
    sums = looked_at(Look(12, 40, Heads(4, axis)), a, b, 0).sums
    for head in range(4):
        agrees(sums[:, head], shares[0][head], shares[1][head])


def test_b_emptied_has_squares_of_nought():
    a = torch.randn(4, 50)
    sums = looked_at(Look(4, 50), a, torch.zeros_like(a), 0).sums
    assert sums[B] == 0 and np.isclose(sums[A], sums[CHANGE])
