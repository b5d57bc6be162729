"""Hashes, norms and sizes of changes, against NumPy in float64 on the whole tensors."""

import hashlib
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuitkit.sfn.written.changes import Tally


def tallied(old, new, *cuts):
    tally = Tally()
    edges = [0, *sorted(cuts), old.shape[0]]
    for start, stop in itertools.pairwise(edges):
        tally.add(old[start:stop], new[start:stop])
    return tally.numbers(stored_before=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 9), cuts=st.lists(st.integers(0, 70), max_size=3), untouched=st.integers(0, 70))
def test_a_change_in_blocks_is_that_of_the_whole(dtype, seed, cuts, untouched):
    generator = torch.Generator().manual_seed(seed)
    # Several thousand elements a row, so that a block is more than one chunk.
    old = torch.randn(70, 1500, generator=generator).to(dtype)
    new = (old.double() + 0.1 * torch.randn(70, 1500, generator=generator)).to(dtype)
    new[:untouched] = old[:untouched]
    found = tallied(old, new, *cuts)
    a, b = old.double().numpy(), new.double().numpy()
    assert found["sha256_before"] == hashlib.sha256(old.view(torch.uint8).numpy().tobytes()).hexdigest()
    assert found["sha256_after"] == hashlib.sha256(new.view(torch.uint8).numpy().tobytes()).hexdigest()
    assert found["elements"] == old.numel() and found["changed"] == np.count_nonzero(a != b)
    assert found["norm_before"] == pytest.approx(np.linalg.norm(a), rel=1e-12)
    assert found["norm_after"] == pytest.approx(np.linalg.norm(b), rel=1e-12)
    assert found["norm_change"] == pytest.approx(np.linalg.norm(b - a), rel=1e-12)
    assert found["cosine"] == pytest.approx((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b), rel=1e-12)
    assert found["largest_change"] == np.abs(b - a).max()
    assert found["mean_change"] == pytest.approx(np.abs(b - a).mean(), rel=1e-12)


def test_columns_of_a_larger_tensor_hash_as_their_own_bytes():
    whole = torch.arange(12.0).reshape(3, 4)
    found = tallied(whole[:, 1:3], whole[:, 1:3])
    assert found["sha256_after"] == hashlib.sha256(whole[:, 1:3].contiguous().numpy().tobytes()).hexdigest()


def test_zeros_have_no_cosine_and_a_scalar_counts():
    assert math.isnan(tallied(torch.ones(3), torch.zeros(3))["cosine"])
    scalar = Tally()
    scalar.add(torch.tensor(2.0), torch.tensor(5.0))
    assert scalar.numbers(stored_before=False) | {"sha256_after": None} == {
        "elements": 1,
        "changed": 1,
        "sha256_before": None,
        "sha256_after": None,
        "norm_before": 2.0,
        "norm_after": 5.0,
        "norm_change": 3.0,
        "cosine": 1.0,
        "largest_change": 3.0,
        "mean_change": 3.0,
    }


def test_the_sign_of_zero_changes_bytes_and_no_value():
    found = tallied(torch.zeros(2), -torch.zeros(2))
    assert found["changed"] == 0 and found["sha256_before"] != found["sha256_after"]
