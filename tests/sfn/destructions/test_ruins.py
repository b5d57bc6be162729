"""Tensors of which parts are destroyed: the same in whatever blocks, and nothing outside of the parts is touched."""

import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from circuitkit.sfn.destructions.fillings import Noise, Permuted, Reinitialised, Zero
from circuitkit.sfn.destructions.ruins import Ruin
from circuitkit.sfn.errors import CheckpointError
from circuitkit.sfn.streams.checkpoint import Checkpoint
from circuitkit.sfn.streams.headers import stored_in
from circuitkit.sfn.streams.parts import Part

NAME = "model.layers.0.self_attn.qkv.weight"
WAYS = {"zero": Zero(), "reinit": Reinitialised(seed=3), "permute": Permuted(4), "noise": Noise(5)}


def stored(folder: Path, tensor: torch.Tensor) -> Checkpoint:
    save_file({NAME: tensor}, folder / "model.safetensors")
    return Checkpoint("toy", {each.name: each for each in stored_in(folder / "model.safetensors")}, folder=folder)


@st.composite
def parts_of(draw, rows: int, columns: int) -> list[Part]:
    """Shares of a matrix that do not overlap: rows dealt out in turns or in stretches, some of their columns."""
    owners, step = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    found = []
    for owner in range(owners):
        if draw(st.booleans()):
            runs = [slice(start, min(start + step, rows)) for start in range(owner * step, rows, owners * step)]
        else:
            runs = [slice(owner, rows, owners)] if step == 1 else []
        if not runs or runs[0].start >= rows:
            continue
        first = draw(st.integers(0, columns - 1))
        across = draw(st.sampled_from([None, (slice(first, columns),)]))
        out_axis = draw(st.integers(0, 1))
        found.append(
            Part(NAME, NAME, (f"role{owner}",), 0, False, None, (rows, columns), tuple(runs), across, out_axis=out_axis)
        )
    return found


def covered(parts: list[Part], like: torch.Tensor) -> torch.Tensor:
    mask = torch.zeros_like(like, dtype=torch.bool)
    for part in parts:
        part.put(mask, torch.ones(part.shape, dtype=torch.bool))
    return mask


@settings(max_examples=80, deadline=None)
@given(data=st.data(), rows=st.integers(1, 24), columns=st.integers(1, 9), way=st.sampled_from(sorted(WAYS)))
def test_neither_blocks_nor_what_lies_between_them_matter(data, rows, columns, way):
    parts = data.draw(parts_of(rows, columns))
    step = data.draw(st.integers(1, rows))
    dtype = data.draw(st.sampled_from([torch.float32, torch.bfloat16]))
    tensor = torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows)).to(dtype)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = stored(Path(folder), tensor)
        whole = Ruin(checkpoint, NAME, parts, WAYS[way], {}).rows(slice(0, rows), tensor)
        ruin = Ruin(checkpoint, NAME, parts, WAYS[way], {})
        pieces = [slice(first, min(first + step, rows)) for first in range(0, rows, step)]
        assert torch.equal(torch.cat([ruin.rows(at, tensor[at]) for at in pieces]), whole)
        # A part's numbers hang neither on the tensor around it nor on the other parts.
        for part in parts:
            alone = part.take(tensor).clone()
            at_home = Part(NAME, NAME, part.roles, 0, False, None, tuple(alone.shape), (slice(0, len(alone)),))
            at_home = at_home if part.out_axis == 0 else _turned(at_home)
            (Path(folder) / "alone").mkdir(exist_ok=True)
            own = stored(Path(folder) / "alone", alone)
            by_itself = Ruin(own, NAME, [at_home], WAYS[way], {}).rows(slice(0, len(alone)), alone)
            assert torch.equal(part.take(whole), by_itself)
    outside = ~covered(parts, tensor)
    assert torch.equal(whole[outside], tensor[outside])
    if way == "zero":
        assert not whole[~outside].any()


def _turned(part: Part) -> Part:
    return Part(part.tensor, part.parameter, part.roles, 0, False, None, part.of, part.rows, out_axis=1)


@settings(max_examples=30, deadline=None)
@given(step=st.integers(1, 30), way=st.sampled_from(sorted(WAYS)), experts=st.integers(1, 3))
def test_experts_in_one_tensor_are_what_they_are_in_tensors_of_their_own(step, way, experts):
    outputs, inputs = 6, 5
    tensor = torch.randn(experts, outputs, inputs, generator=torch.Generator().manual_seed(0))
    runs = [(slice(each * outputs, (each + 1) * outputs),) for each in range(experts)]
    parts = [
        Part(NAME, NAME, ("up_proj",), 0, False, each, tuple(tensor.shape), rows) for each, rows in enumerate(runs)
    ]
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = stored(Path(folder), tensor)
        ruin = Ruin(checkpoint, NAME, parts, WAYS[way], {})
        table = tensor.view(-1, inputs)
        pieces = [slice(first, min(first + step, len(table))) for first in range(0, len(table), step)]
        fused = torch.cat([ruin.rows(at, table[at]) for at in pieces]).view_as(tensor)
        for expert in range(experts):
            (Path(folder) / str(expert)).mkdir()
            own = stored(Path(folder) / str(expert), tensor[expert].clone())
            part = Part(NAME, NAME, ("up_proj",), 0, False, expert, (outputs, inputs), (slice(0, outputs),))
            alone = Ruin(own, NAME, [part], WAYS[way], {}).rows(slice(0, outputs), tensor[expert])
            assert torch.equal(fused[expert], alone)


def test_what_shuffling_columns_keeps_of_a_part_is_let_go_behind_it(tmp_path):
    tensor = torch.randn(8, 4)
    parts = [
        Part(NAME, NAME, ("up_proj",), 0, False, each, (8, 4), (slice(4 * each, 4 * each + 4),), out_axis=1)
        for each in range(2)
    ]
    ruin = Ruin(stored(tmp_path, tensor), NAME, parts, Permuted(), {"how": "permute"})
    for first in range(0, 8, 2):
        ruin.rows(slice(first, first + 2), tensor[first : first + 2])
        assert len(ruin._begun) <= 1
    assert not ruin._begun
    assert ruin.told() == {"how": "permute", "parts": ["up_proj expert 0", "up_proj expert 1"]}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_weights_that_are_no_numbers_are_refused(tmp_path, way, bad):
    tensor = torch.randn(6, 4)
    tensor[5, 2] = bad
    part = Part(NAME, NAME, ("q_proj",), 0, False, None, (6, 4), (slice(0, 6),))
    ruin = Ruin(stored(tmp_path, tensor), NAME, [part], WAYS[way], {})
    with pytest.raises(CheckpointError, match=rf"{NAME} of toy holds (nan|inf) at \[5, 2\]"):
        [ruin.rows(slice(first, first + 2), tensor[first : first + 2]) for first in (0, 2, 4)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("out_axis", [0, 1])
def test_the_pieces_that_are_made_at_a_time_make_no_difference(tmp_path, monkeypatch, way, out_axis):
    tensor = torch.randn(40, 6)
    part = Part(NAME, NAME, ("q_proj",), 0, False, None, (40, 6), (slice(3, 37),), out_axis=out_axis)
    checkpoint = stored(tmp_path, tensor)
    whole = Ruin(checkpoint, NAME, [part], WAYS[way], {}).rows(slice(0, 40), tensor)
    monkeypatch.setattr("circuitkit.sfn.destructions.ruins._PIECE", 5 * 6 * 4)
    assert torch.equal(Ruin(checkpoint, NAME, [part], WAYS[way], {}).rows(slice(0, 40), tensor), whole)
    assert not torch.equal(whole[3:37], tensor[3:37])
