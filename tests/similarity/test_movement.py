"""Weights' movement against planted changes: its size, its directions, and whether two went the same way."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import circuitkit as ck
from circuitkit.similarity import alignment, movement, stable_rank


@pytest.fixture(scope="module")
def base():
    return ck.load("deductor-20k-base")


def changed(base, change):
    """The base with something added to some of its weights, by their names."""
    hf = copy.deepcopy(base.hf)
    with torch.no_grad():
        for name, parameter in hf.named_parameters():
            if name in change:
                parameter += change[name].to(parameter)
    return ck.Model(hf, base.tokenizer, name="changed")


Q, DOWN = "model.layers.1.self_attn.q_proj.weight", "model.layers.0.mlp.down_proj.weight"


def test_what_did_not_move_has_noughts_and_the_rest_its_planted_size_and_rank(base):
    weights = {name: each.detach() for name, each in base.hf.named_parameters()}
    line = torch.outer(torch.arange(1.0, 25.0), torch.ones(24))
    moved = movement(base, changed(base, {Q: line, DOWN: 0.5 * weights[DOWN]})).set_index("name")
    still = moved.drop([Q, DOWN])
    assert (still["relative"] == 0).all() and still["stable_rank"].isna().all()
    assert moved.loc[DOWN, "relative"] == pytest.approx(0.5, rel=1e-6)
    assert moved.loc[Q, "relative"] == pytest.approx(float(line.norm() / weights[Q].norm()), rel=1e-6)
    assert moved.loc[Q, "change"] == pytest.approx(float(line.norm()), rel=1e-6)
    assert moved.loc[Q, "stable_rank"] == pytest.approx(1.0, rel=1e-6)
    assert moved.loc[DOWN, "stable_rank"] > 2


def test_each_parameter_is_there_once_with_its_role_and_layer(base):
    moved = movement(base, base)
    assert moved["name"].tolist() == [name for name, _ in base.hf.named_parameters()]
    told = moved.set_index("name")[["role", "layer"]].apply(tuple, axis=1)
    assert told[Q] == ("q_proj", 1) and told[DOWN] == ("down_proj", 0)
    assert told["model.embed_tokens.weight"][1] == -1 and "embed" in told["model.embed_tokens.weight"][0]
    assert told["model.norm.weight"] == ("norm", -1)
    assert moved["numbers"].sum() == sum(each.numel() for each in base.hf.parameters())


def test_directions_agree_oppose_and_are_at_right_angles(base):
    turn = torch.Generator().manual_seed(0)
    step = torch.randn(24, 24, generator=turn)
    other = torch.randn(24, 24, generator=turn)
    other -= (other * step).sum() / (step * step).sum() * step
    one = changed(base, {Q: step})
    for change, cosine in [(3 * step, 1.0), (-0.1 * step, -1.0), (other, 0.0), (step + other, None)]:
        found = alignment(base, one, changed(base, {Q: change})).set_index("name")["cosine"]
        wanted = math.cos(math.atan2(float(other.norm()), float(step.norm()))) if cosine is None else cosine
        assert found[Q] == pytest.approx(wanted, abs=1e-5)
        assert found.drop(Q).isna().all()


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 1000))
def test_a_stable_rank_is_from_one_to_the_rank_and_that_of_the_singular_values(rows, columns, seed):
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    singular = torch.linalg.svdvals(matrix)
    assert stable_rank(matrix) == pytest.approx(float(singular.square().sum() / singular[0] ** 2))
    assert 1 - 1e-9 <= stable_rank(matrix) <= min(rows, columns) + 1e-9


def test_models_of_other_shapes_are_refused(base):
    with pytest.raises(ValueError, match="have other parameters"):
        movement(base, ck.load("deductor-60k"))
    with pytest.raises(ValueError, match=r"embed_tokens.weight is \(305, 24\)"):
        movement(base, ck.load("deductor-5k"))
    with pytest.raises(ValueError, match="a matrix's"):
        stable_rank(torch.ones(3))
