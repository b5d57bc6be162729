"""A cell beside the others of its line, against the control of a set of one head."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuitkit.statistics import against_controls
from circuitkit.statistics.matched import against_others


@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 3)),
    axis=st.integers(-3, 2),
    missing=st.floats(0, 0.5),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=40, deadline=None)
def test_every_cell_has_the_control_of_its_line(shape, axis, missing, seed):
    generator = np.random.default_rng(seed)
    effects = np.where(generator.random(shape) < missing, np.nan, generator.normal(size=shape))
    found = against_others(effects, axis, level=0.8)
    for at in np.ndindex(*shape):
        along = list(at)
        along[axis] = slice(None)
        line = np.delete(effects[tuple(along)], at[axis])
        beside = line[~np.isnan(line)]
        if np.isnan(effects[at]) or not len(beside):
            assert all(np.isnan(getattr(found, name)[at]) for name in ("mean", "low", "high", "p"))
            assert found.n_others[at] == 0
            continue
        expected = against_controls(effects[at], beside, level=0.8)
        for name in ("mean", "low", "high", "p"):
            assert getattr(found, name)[at] == pytest.approx(getattr(expected, name), abs=1e-12)
        assert found.n_others[at] == len(beside)


def test_a_head_that_stands_out_does_so_in_its_layer_alone():
    effects = torch.full((3, 8), 0.1)
    effects[1, 4], effects[2] = 2.0, 2.0
    others = against_others(effects)
    assert others.p[1, 4] == 1 / 8 and (others.p[2] == 1).all() and others.high[1, 4] == pytest.approx(0.1)


def test_an_axis_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="2 axes, so there is none numbered 2"):
        against_others(np.zeros((2, 3)), axis=2)
