"""What takes a weight's place: the same numbers however they are asked for, and the statistics that are promised."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from circuitkit.sfn.destructions.draws import CHUNK, Draws
from circuitkit.sfn.destructions.fillings import AsBuilt, FillingError, Noise, Permuted, Place, Reinitialised, Zero
from circuitkit.sfn.destructions.initialisation import Law

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
NAME = "model.layers.0.self_attn.q_proj.weight"
NORMAL = Law((("normal", (0.0, 0.02)),))
WAYS = {
    "zero": Zero(),
    "reinit": Reinitialised(),
    "init": AsBuilt({NAME: NORMAL}),
    "permute": Permuted(),
    "noise": Noise(),
}
SHAPES = st.one_of(st.tuples(st.integers(1, 40)), st.tuples(st.integers(1, 40), st.integers(1, 40)))


def weights(shape, dtype=torch.float32, seed=0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def filled(filling, old, step=None, *, out_axis=0, name=NAME, share=()) -> torch.Tensor:
    """A weight filled `step` rows at a time."""
    place = Place(name, share, tuple(old.shape), old.dtype, out_axis)
    step = step or len(old)
    pieces = [slice(first, min(first + step, len(old))) for first in range(0, len(old), step)]
    rows = filling.begin(place, lambda: [(at, old[at]) for at in pieces])
    return torch.cat([rows(at, old[at]) for at in pieces])


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=25, deadline=None)
@given(shape=SHAPES, step=st.integers(1, 40), dtype=st.sampled_from(DTYPES), out_axis=st.integers(0, 1))
def test_blocks_make_no_difference(way, shape, step, dtype, out_axis):
    old = weights(shape, dtype)
    before = old.clone()
    whole = filled(WAYS[way], old, out_axis=out_axis)
    assert whole.dtype == dtype and whole.shape == old.shape
    assert torch.equal(filled(WAYS[way], old, step, out_axis=out_axis), whole)
    assert torch.equal(old, before), "what is read is not written to"


@settings(max_examples=40, deadline=None)
@given(first=st.integers(0, 3 * CHUNK), count=st.integers(1, CHUNK + 7), kind=st.sampled_from(["normal", "uniform"]))
def test_a_piece_of_the_draws_is_the_draws_there(first, count, kind):
    draw = getattr(Draws(3, ("a",)), kind)
    assert np.array_equal(draw(first, first + count), draw(0, 4 * CHUNK + 7)[first : first + count])


@settings(max_examples=40, deadline=None)
@given(
    columns=st.sampled_from([1, 3, 4096, CHUNK // 3, CHUNK + 5]),
    first=st.integers(0, 40),
    count=st.integers(1, 9),
    dtype=st.sampled_from([np.int16, np.int32, np.int64]),
)
def test_a_row_is_shuffled_alike_whatever_rows_come_with_it(columns, first, count, dtype):
    rows, draws = np.arange(columns).astype(dtype)[None].repeat(first + count, 0), Draws(3, ("a",))
    whole = draws.shuffled(rows, 0)
    assert whole.dtype == dtype and np.array_equal(draws.shuffled(rows[first:], first), whole[first:])
    assert np.array_equal(whole, draws.shuffled(rows.astype(np.int64), 0).astype(dtype)), "orders are of no dtype"
    assert np.array_equal(np.sort(whole, 1), np.sort(rows, 1))


@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_draws_do_not_repeat_themselves(kind):
    # A correlation of this size comes up once in 10^6 between numbers that have nothing to do with one another.
    numbers = getattr(Draws(3, ("a",)), kind)(0, 4 * CHUNK).reshape(4, CHUNK)
    others = np.corrcoef(numbers)[np.triu_indices(4, 1)]
    assert np.abs(others).max() < stats.norm.isf(0.5e-6 / len(others)) / math.sqrt(CHUNK)


@pytest.mark.parametrize("way", ["reinit", "init", "permute", "noise"])
def test_seed_name_and_share_each_change_the_numbers(way):
    old = weights((30, 20))
    make = {
        "reinit": lambda seed: Reinitialised(seed=seed),
        "init": lambda seed: AsBuilt({NAME: NORMAL, "b.weight": NORMAL}, seed),
        "permute": Permuted,
        "noise": Noise,
    }[way]
    first = filled(make(0), old)
    assert torch.equal(filled(make(0), old), first)
    others = [filled(make(1), old), filled(make(0), old, name="b.weight"), filled(make(0), old, share=(1,))]
    for other in others:
        # Two orders of 20 entries agree in one place on average; two draws of a continuous number in none.
        assert float((other == first).float().mean()) < 0.2


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("way", ["reinit", "init"])
def test_draws_are_of_no_dtype_and_rounded_once(way, dtype):
    single = filled(WAYS[way], weights((50, 30)))
    assert torch.equal(filled(WAYS[way], weights((50, 30), dtype)), single.to(dtype))


def test_zero_is_all_zeros():
    for dtype in DTYPES:
        assert not filled(Zero(), weights((7, 5), dtype)).any()


@pytest.mark.parametrize("sigma", [0.02, 3.0])
def test_reinit_has_the_mean_and_the_sigma_that_were_asked_for(sigma):
    # Each test errs once in 10^6 on numbers that are as they should be; the draws are fixed, so that it does not here.
    new = filled(Reinitialised(sigma, seed=11), weights((1000, 300))).double().numpy().ravel()
    count, error = new.size, 1e-6
    assert abs(new.mean()) < stats.norm.isf(error / 2) * sigma / math.sqrt(count)
    low, high = stats.chi2.ppf([error / 2, 1 - error / 2], count)
    assert low < (new**2).sum() / sigma**2 < high
    # A sigma that is 2 % off would be found.
    assert (
        not low < (new**2).sum() / (1.02 * sigma) ** 2 < high and not low < (new**2).sum() / (0.98 * sigma) ** 2 < high
    )
    assert stats.kstest(new, stats.norm(scale=sigma).cdf).pvalue > error
    # Neighbours along rows and columns have nothing to do with each other.
    table = new.reshape(1000, 300) / sigma
    for product in (table[1:] * table[:-1], table[:, 1:] * table[:, :-1]):
        assert abs(product.mean()) < stats.norm.isf(error / 2) / math.sqrt(product.size)


@settings(max_examples=50, deadline=None)
@given(shape=SHAPES, out_axis=st.integers(0, 1), seed=st.integers(0, 100), scale=st.sampled_from([1e-4, 1.0, 50.0]))
def test_noise_has_exactly_the_norm_that_was_there(shape, out_axis, seed, scale):
    old = scale * weights(shape, seed=seed)
    new = filled(Noise(seed), old, out_axis=out_axis)
    assert float(new.double().norm()) == pytest.approx(float(old.double().norm()), rel=1e-6)
    if old.numel() > 1:
        assert not torch.equal(new, old)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_noise_in_half_precision_has_the_norm_to_rounding(dtype):
    old = weights((400, 500), dtype)
    # Rounding moves a number's square by up to eps of it, at random: the sum's relative error shrinks with its length.
    error = 4 * torch.finfo(dtype).eps / math.sqrt(old.numel()) + torch.finfo(dtype).eps ** 2
    assert float(filled(Noise(), old).double().norm() / old.double().norm()) == pytest.approx(1, abs=error)


def test_noise_is_gaussian_and_of_zeros_there_is_none():
    old = weights((300, 400)).abs()
    new = filled(Noise(5), old).double().numpy().ravel()
    sigma = float(old.double().norm()) / math.sqrt(old.numel())
    assert stats.kstest(new, stats.norm(scale=sigma).cdf).pvalue > 1e-6
    assert not filled(Noise(), torch.zeros(3, 4)).any()


@settings(max_examples=50, deadline=None)
@given(shape=SHAPES, out_axis=st.integers(0, 1), dtype=st.sampled_from(DTYPES), seed=st.integers(0, 9))
def test_permuted_keeps_what_feeds_each_output(shape, out_axis, dtype, seed):
    old = weights(shape, dtype, seed)
    new = filled(Permuted(seed), old, out_axis=out_axis)
    along = 0 if len(shape) == 1 else 1 - out_axis
    assert torch.equal(new.float().sort(along).values, old.float().sort(along).values)


def test_permuted_shuffles_evenly_and_each_output_in_its_own_order():
    count, entries = 6000, 6
    new = filled(Permuted(2), torch.arange(entries).float().repeat(count, 1))
    seen = torch.stack([(new == each).sum(0) for each in range(entries)]).numpy()
    assert stats.chi2.sf(((seen - count / entries) ** 2 / (count / entries)).sum(), (entries - 1) ** 2) > 1e-6
    orders = np.unique(new.numpy(), axis=0)
    assert len(orders) == math.factorial(entries), "every order comes up among 6,000 of 720"
    # Along the other axis the same holds of columns.
    turned = filled(Permuted(2), torch.arange(entries).float().repeat(count, 1).T, out_axis=1)
    assert torch.equal(turned.T, new)


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan, math.inf])
def test_a_sigma_that_is_none_is_refused(sigma):
    with pytest.raises(FillingError, match="sigma is a standard deviation above 0"):
        Reinitialised(sigma)


@pytest.mark.parametrize("seed", [-1, 0.5, True])
def test_a_seed_that_is_none_is_refused(seed):
    for way in (Noise, Permuted, lambda each: Reinitialised(seed=each), lambda each: AsBuilt({}, each)):
        with pytest.raises(FillingError, match="a seed is a whole number"):
            way(seed)


def test_numbers_too_large_for_the_dtype_are_refused():
    with pytest.raises(FillingError, match=f"{NAME} go beyond what float16 holds"):
        filled(Reinitialised(1e6), weights((4, 4), torch.float16))


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_quantised_weights_are_refused(dtype):
    with pytest.raises(FillingError, match=f"{NAME} is stored as .*destroy an unquantised checkpoint"):
        Place(NAME, (), (2, 2), dtype)


def test_a_parameter_that_the_architecture_does_not_know_is_refused():
    with pytest.raises(FillingError, match=f"the architecture has no parameter {NAME}"):
        filled(AsBuilt({}), weights((2, 2)))
