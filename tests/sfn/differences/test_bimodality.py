"""Planted changes: what has modes of its own is found, and each artefact is called what it is."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from circuitkit.sfn.differences import bimodality as modes
from circuitkit.sfn.differences.bimodality import bimodality
from circuitkit.sfn.differences.precision import PRECISIONS, coarser, coarsest, rounded, unit
from circuitkit.sfn.differences.verdicts import judged

N = 4096


def weights(rng, kind="gaussian"):
    return {
        "gaussian": lambda: rng.normal(0, 0.02, N),
        "heavy": lambda: 0.01 * rng.standard_t(4, N),
        "even": lambda: rng.uniform(-0.03, 0.03, N),
    }[kind]()


def signs(rng):
    return rng.choice([-1.0, 1.0], N)


def truly_bimodal(rng, a):
    """Each weight grows or shrinks by about a third of itself."""
    return a * 0.3 * signs(rng) * rng.normal(1, 0.2, N)


def sign_like(rng, a):
    """A few steps of Adam: all changes about as large, whatever the weight."""
    return 1e-3 * signs(rng) * rng.normal(1, 0.1, N)


def rounding(rng, a):
    """Gaussian changes of about half a step of bfloat16, in weights that are bfloat16."""
    return rounded(a + rng.normal(0, 5e-5, N), "bfloat16") - a


def small_weights(rng, a):
    """Nearly everything moves like a Gaussian; the smallest weights alone grow or shrink by half of themselves."""
    small = np.abs(a) < 1e-3
    return np.where(small, a * 0.5 * signs(rng) * rng.normal(1, 0.1, N), rng.normal(0, 2e-4, N))


def with_small_ones(a, rng):
    return np.where(rng.random(N) < 0.4, a * 1e-2, a)


def verdict(a, change, precision="float32", formula="paper", seed=0):
    found, _ = bimodality(a, change, formula, precision, seed)
    return judged(found, found.p), found


@pytest.mark.parametrize("formula", ["paper", "code"])
@pytest.mark.parametrize("seed", range(3))
def test_changes_that_are_bimodal_relative_to_their_weights_are_found(seed, formula):
    rng = np.random.default_rng(seed)
    a = weights(rng)
    said, found = verdict(a, truly_bimodal(rng, a), formula=formula)
    assert said.verdict == "bimodal" and found.depth > 0.9 and found.coefficient > 5 / 9
    assert "both sides of zero" in said.because
    # What they are relative to is each weight: shuffled, or taken by themselves, they have one mode.
    assert found.dip_shuffled < 0.1 * found.dip and found.p_change > 0.05


@pytest.mark.parametrize("seed", range(3))
def test_true_modes_survive_in_low_precision(seed):
    rng = np.random.default_rng(seed)
    a = rounded(weights(rng), "bfloat16")
    change = rounded(a + truly_bimodal(rng, a), "bfloat16") - a
    assert verdict(a, change, "bfloat16")[0].verdict == "bimodal"


@pytest.mark.parametrize("kind", ["gaussian", "heavy", "even"])
@pytest.mark.parametrize("seed", range(3))
def test_sign_like_updates_are_called_so(seed, kind):
    rng = np.random.default_rng(seed)
    a = weights(rng, kind)
    said, found = verdict(a, sign_like(rng, a))
    assert said.verdict == "sign-like" and "sign-like" in said.because
    assert found.p < 0.001 and found.variation < 0.15 and found.kurtosis < 1.2
    assert found.dip_shuffled == pytest.approx(found.dip, rel=0.2)


@pytest.mark.parametrize("seed", range(3))
def test_rounding_is_called_so(seed):
    rng = np.random.default_rng(seed)
    a = rounded(weights(rng), "bfloat16")
    said, found = verdict(a, rounding(rng, a), "bfloat16")
    assert said.verdict == "rounding" and "bfloat16" in said.because
    assert found.within_unit > 0.5 and found.dip_rounding == pytest.approx(found.dip, rel=0.25)


def test_subnormal_float16_weights_are_called_rounding():
    rng = np.random.default_rng(0)
    a = rounded(rng.normal(0, 2e-6, N), "float16")
    a = np.where(a == 0, 2.0**-24, a)
    change = rounded(a + rng.normal(0, 4e-8, N), "float16") - a
    assert verdict(a, change, "float16")[0].verdict == "rounding"


@pytest.mark.parametrize("seed", range(3))
def test_modes_of_small_weights_alone_are_called_so(seed):
    rng = np.random.default_rng(seed)
    a = with_small_ones(weights(rng), rng)
    said, found = verdict(a, small_weights(rng, a))
    assert said.verdict == "small weights" and "tenth of the root mean square" in said.because
    assert found.p < 0.001 and found.p_large > 0.5


def test_modes_that_sizes_make_but_no_signs_are_told_apart():
    rng = np.random.default_rng(0)
    a = weights(rng)
    # Half of the changes are ten times as large as the others: their sizes vary, and still leave a hole at zero.
    change = signs(rng) * np.where(rng.random(N) < 0.5, 2e-3, 2e-4) * rng.normal(1, 0.05, N)
    said, found = verdict(a, change)
    assert said.verdict == "sizes alone" and found.variation > 0.5


def test_modes_without_a_hollow_at_zero_are_other_modes():
    rng = np.random.default_rng(0)
    a = weights(rng)
    change = a * np.where(rng.random(N) < 0.5, rng.normal(0.4, 0.05, N), rng.normal(0, 0.05, N))
    assert verdict(a, change)[0].verdict == "other modes"


@pytest.mark.parametrize("kind", ["gaussian", "heavy", "even"])
@pytest.mark.parametrize("size", [1e-4, 2e-2])
def test_gaussian_changes_have_one_mode(kind, size, monkeypatch):
    monkeypatch.setattr(modes, "SHUFFLES", 1)
    monkeypatch.setattr(modes, "ROUNDINGS", 1)
    said = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        a = weights(rng, kind)
        said.append(verdict(a, rng.normal(0, size, N))[0].verdict)
    # A level of 5 % allows one in twenty; that is of an even spread, and of these the test is wrong far more rarely.
    assert said == ["unimodal"] * 20


@pytest.mark.parametrize("decay", [0.01, 0.3])
def test_weights_that_shrink_and_jitter_have_one_mode(decay):
    rng = np.random.default_rng(1)
    a = weights(rng)
    assert verdict(a, -decay * a + rng.normal(0, 1e-3, N))[0].verdict == "unimodal"


def test_nothing_and_too_little_are_told():
    rng = np.random.default_rng(0)
    a = weights(rng)
    assert verdict(a, np.zeros(N))[0].verdict == "unchanged"
    said, found = verdict(a[:100], 50 * a[:100])
    assert said.verdict == "too few" and found.entries == 0 and np.isnan(found.p)
    assert verdict(a, np.where(np.arange(N) == 7, a, 0))[0].verdict == "unimodal"


def test_controls_are_told_only_where_there_is_something_to_explain():
    rng = np.random.default_rng(0)
    a = weights(rng)
    found, shapes = bimodality(a, rng.normal(0, 1e-3, N), "paper", "float32")
    assert np.isnan(found.dip_shuffled) and np.isnan(found.dip_rounding)
    assert shapes.near.sum() == pytest.approx(0.8, abs=0.01) and shapes.reach > 0
    assert shapes.near_shuffled.sum() == pytest.approx(shapes.near.sum(), abs=0.05)


def test_shapes_show_the_hole_that_sign_like_updates_leave_under_any_deal():
    rng = np.random.default_rng(0)
    a = weights(rng)
    found, shapes = bimodality(a, sign_like(rng, a), "paper", "float32")
    middle = slice(19, 21)
    assert shapes.near[middle].sum() == 0 == shapes.near_shuffled[middle].sum()
    assert shapes.near_rounding[middle].sum() > 0.05
    # In bins of a hundredth of a weight, as the paper draws them, a hole of that width is there to be seen too.
    assert found.depth > 0.9


def test_controls_are_the_same_for_one_seed():
    rng = np.random.default_rng(0)
    a = weights(rng)
    change = sign_like(rng, a)
    one, again, other = (bimodality(a, change, "paper", "float32", seed)[0] for seed in (0, 0, 1))
    assert one == again and replace(other, dip_shuffled=0, dip_rounding=0) != one
    assert one.dip_shuffled != other.dip_shuffled and one.dip == other.dip


@pytest.mark.parametrize("precision", PRECISIONS[:3])
def test_a_unit_is_the_distance_to_the_next_number(precision):
    dtype = getattr(torch, precision)
    values = torch.tensor([1.0, 1.5, 0.7, 3e-5, 6.5e4 if precision != "float16" else 6e4], dtype=dtype)
    following = torch.nextafter(values, torch.full_like(values, torch.inf))
    expected = (following.double() - values.double()).numpy()
    assert unit(values.double().numpy(), precision) == pytest.approx(expected, rel=1e-12)


def test_formats_are_told_by_the_numbers_and_not_by_how_they_are_stored():
    values = np.array([0.5, 1.0078125])
    assert coarsest(values, torch.float32) == "bfloat16" and coarsest(values, torch.float64) == "bfloat16"
    assert coarsest(np.array([1.0009765625]), torch.float32) == "float16"
    assert coarsest(np.array([0.1]).astype(np.float32).astype(np.float64), torch.float32) == "float32"
    assert coarsest(np.array([0.1]), torch.float64) == "float64"
    assert coarser("float16", "bfloat16") == "bfloat16"
