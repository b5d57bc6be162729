"""Blends against exact fractions, rounded by an independent rule."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from circuitkit.sfn.merges.blending import combined, rounded

DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def nearest(value: float, dtype: torch.dtype) -> float:
    """The nearest number of a dtype, ties to even, found among the neighbours of a rough guess."""
    guess = torch.tensor([value], dtype=torch.float64).to(dtype)
    integers = {2: torch.int16, 4: torch.int32}[dtype.itemsize]
    near = [guess] + [(guess.view(integers) + step).view(dtype) for step in (-1, 1)]
    near = [each for each in near if torch.isfinite(each).item()]
    distances = [
        (abs(Fraction(each.double().item()) - Fraction(value)), each.view(integers).item() & 1) for each in near
    ]
    return near[distances.index(min(distances))].double().item()


@pytest.mark.parametrize("dtype", DTYPES[1:])
@given(
    start=st.floats(-100, 100, width=16).filter(lambda x: abs(x) > 1e-3),
    step=st.integers(-3, 3),
    cut=st.integers(20, 50),
)
def test_float64_is_rounded_once(dtype, start, step, cut):
    here = torch.tensor([start], dtype=torch.float64).to(dtype)
    there = (here.view(torch.int16) + 1).view(dtype)
    # Around the middle of two neighbours, where rounding twice goes wrong.
    middle = (here.double() + there.double()).item() / 2
    value = middle + step * 2.0**-cut * abs(middle)
    assert rounded(torch.tensor([value], dtype=torch.float64), dtype).double().item() == nearest(value, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@given(a=st.floats(-8, 8, width=16), b=st.floats(-8, 8, width=16), weight=st.integers(-64, 64).map(lambda n: n / 32))
def test_a_blend_is_the_exact_one_rounded(dtype, a, b, weight):
    first, second = torch.tensor([a]).to(dtype), torch.tensor([b]).to(dtype)
    found = combined(first, [(weight, second, None)])
    exact = Fraction(first.double().item()) + Fraction(weight) * (
        Fraction(second.double().item()) - Fraction(first.double().item())
    )
    assert found.dtype == dtype and found.double().item() == nearest(float(exact), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_of_one_and_zero_copy_bits(dtype):
    a = torch.tensor([0.0, -0.0, 1.0, 3e-5]).to(dtype)
    b = torch.tensor([-0.0, 0.0, 2.0, 6e-8]).to(dtype)
    for weight, expected in ((1, b), (0, a)):
        found = combined(a, [(weight, b, None)])
        assert torch.equal(found.view(torch.uint8), expected.view(torch.uint8))
    assert combined(a, []) is a


def test_task_arithmetic_over_donors_and_a_base():
    a, base, b, c = torch.tensor([[1.0, 2.0], [4.0, 0.5], [3.0, 3.0], [-1.0, 8.0]])
    found = combined(a, [(0.5, b, base), (-2.0, c, base), (0.25, c, None)])
    assert found.tolist() == [1 + 0.5 * -1 - 2 * -5 + 0.25 * -2, 2 + 0.5 * 2.5 - 2 * 7.5 + 0.25 * 6]


@given(cut=st.integers(1, 999), seed=st.integers(0, 5))
def test_blocks_blend_as_the_whole_does(cut, seed):
    drawn = torch.randn(3, 1000, generator=torch.Generator().manual_seed(seed))
    whole = combined(drawn[0], [(0.3, drawn[1], None), (0.7, drawn[2], None)])
    parts = [
        combined(drawn[0, at], [(0.3, drawn[1, at], None), (0.7, drawn[2, at], None)])
        for at in (slice(cut), slice(cut, None))
    ]
    assert torch.equal(torch.cat(parts), whole)
