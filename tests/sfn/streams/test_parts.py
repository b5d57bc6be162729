"""Parts of tensors: taken and put, whole and from blocks, as plain indexing has it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from circuitkit.sfn import Part, SelectionError
from circuitkit.sfn.streams.blocks import slices


@st.composite
def runs(draw, size):
    """Stretches of an axis in order, some with a step."""
    edges = sorted(draw(st.sets(st.integers(0, size), min_size=2, max_size=6)))
    found = []
    for start, stop in zip(edges[::2], edges[1::2], strict=False):
        step = draw(st.sampled_from([1, 1, 2, 3]))
        found.append(slice(start, len(range(start, stop, step)) * step - step + start + 1, step))
    return tuple(found)


@st.composite
def parts(draw):
    """A tensor's shape, and some part of it."""
    shape = tuple(draw(st.lists(st.integers(1, 6), min_size=1, max_size=3)))
    rows = 1
    for size in shape[:-1] if len(shape) > 1 else shape:
        rows *= size
    columns = draw(st.none() | runs(shape[-1])) if len(shape) > 1 else None
    vector = len(shape) > 1 and draw(st.booleans())
    return Part("w", "w", (), None, False, None, of=shape, rows=draw(runs(rows)), columns=columns, vector=vector)


def indexed(part: Part, whole: torch.Tensor) -> torch.Tensor:
    """A part by plain indexing."""
    rows = torch.tensor([row for run in part.rows for row in range(run.start, run.stop, run.step or 1)])
    if len(part.of) == 1:
        return whole[rows]
    table = whole.reshape(-1, part.of[-1])[rows]
    if part.columns is not None:
        table = table[:, torch.tensor([at for run in part.columns for at in range(run.start, run.stop, run.step or 1)])]
    return table.flatten() if part.vector else table


@settings(max_examples=150, deadline=None)
@given(parts())
def test_a_part_is_taken_and_put_where_indexing_has_it(part):
    whole = torch.arange(float(torch.Size(part.of).numel())).view(part.of)
    taken = part.take(whole)
    assert torch.equal(taken, indexed(part, whole))
    assert (tuple(taken.shape), taken.numel()) == (part.shape, part.numel)
    new, expected = whole.clone(), whole.clone()
    part.put(new, -1 - taken)
    for value in taken.flatten():
        expected[whole == value] = -1 - value
    assert torch.equal(new, expected)


@settings(max_examples=150, deadline=None)
@given(parts(), st.integers(1, 6))
def test_a_part_is_put_together_from_blocks(part, step):
    whole = torch.arange(float(torch.Size(part.of).numel())).view(part.of)
    table = whole.reshape(-1) if len(part.of) == 1 else whole.reshape(-1, part.of[-1])
    own, put = [], torch.zeros_like(table)
    expected = torch.zeros_like(whole)
    part.put(expected, -part.take(whole))
    for at in slices(len(table), 1, step):
        found = part.within(at)
        if found is None:
            continue
        inside, mine = found
        assert torch.equal(inside.take(table[at]), part.take(whole)[mine])
        own.append(mine)
        inside.put(put[at], -part.take(whole)[mine])
    assert [piece.start for piece in own] == [0, *(piece.stop for piece in own[:-1])]
    assert own[-1].stop == part.shape[0]
    assert torch.equal(put.view(part.of), expected)


def projection(role: str, *, out_axis: int = 0, bias: bool = False, heads: int | None = 3) -> Part:
    shape = (6,) if bias else (6, 12) if out_axis == 0 and role == "o_proj" else (6, 6)
    return Part("w", "w", (role,), 4, bias, None, of=shape, rows=(slice(0, 6),), out_axis=out_axis, heads=heads)


def test_heads_of_queries_are_outputs_and_of_o_inputs():
    assert projection("q_proj").head(1).rows == (slice(2, 4, 1),)
    assert projection("q_proj", out_axis=1).head(1).columns == (slice(2, 4, 1),)
    assert projection("o_proj").head(1).columns == (slice(4, 8, 1),)
    assert projection("o_proj", out_axis=1).head(1).rows == (slice(2, 4, 1),)
    assert projection("q_proj", bias=True).head(-1).rows == (slice(4, 6, 1),)
    assert projection("q_proj").head(-1).which == 2


def test_heads_that_are_not_there_are_refused():
    with pytest.raises(SelectionError, match="head 3 does not exist: q_proj of layer 4 has heads 0 to 2"):
        projection("q_proj").head(3)
    with pytest.raises(SelectionError, match="down_proj is no projection of heads"):
        projection("down_proj", heads=None).head(0)
    with pytest.raises(SelectionError, match="bias of o_proj, which is added behind all heads: no head has one"):
        projection("o_proj", bias=True).head(0)


def test_other_shapes_are_refused():
    part = projection("q_proj")
    with pytest.raises(ValueError, match=r"w has the shape \[6, 6\], and \[6, 5\] was given"):
        part.take(torch.zeros(6, 5))
    with pytest.raises(ValueError, match=r"its q_proj has the shape \[6, 6\], not \[6\]"):
        part.put(torch.zeros(6, 6), torch.zeros(6))
