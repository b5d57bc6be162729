"""Blocks of rows: all of a tensor, in order, without what they are read into growing."""

import os
import resource
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from circuitkit.sfn import CheckpointError
from circuitkit.sfn.streams.blocks import blocks_of, check_finite, mapped
from circuitkit.sfn.streams.headers import stored_in

DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def stored(folder: Path, tensor: torch.Tensor, *, before: int = 0):
    """A tensor in a file, so many bytes of another before it."""
    file = folder / "some.safetensors"
    save_file({"a": torch.zeros(before, dtype=torch.uint8), "b": tensor}, file)
    return next(each for each in stored_in(file) if each.name == "b")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 7), max_size=4),
    st.sampled_from(DTYPES),
    st.integers(1, 200),
    st.integers(0, 3),
)
def test_blocks_are_the_tensor(tmp_path_factory, shape, dtype, nbytes, before):
    tensor = torch.randn(shape).to(dtype)
    there = stored(tmp_path_factory.mktemp("file"), tensor, before=before)
    rows = tensor.reshape(-1) if tensor.ndim < 2 else tensor.flatten(0, -2)
    found = list(blocks_of(there, nbytes))
    assert [at.start for at, _ in found] == [0, *(at.stop for at, _ in found[:-1])][: len(found)]
    assert all(torch.equal(block, rows[at]) and block.dtype == dtype for at, block in found)
    assert sum(at.stop - at.start for at, _ in found) == len(rows)
    # A block is of so many bytes, or of one row.
    assert all(block.numel() * dtype.itemsize <= nbytes or len(block) == 1 for _, block in found)


def test_a_block_of_its_own_may_be_written_into_and_the_file_stays(tmp_path):
    there = stored(tmp_path, torch.ones(4, 4))
    before = there.file.read_bytes()
    for _, block in blocks_of(there):
        block.zero_()
    mapped(there).zero_()
    assert there.file.read_bytes() == before


def test_a_tensor_passes_in_less_memory_than_it_has(tmp_path):
    there = stored(tmp_path, torch.ones(1 << 25, dtype=torch.bfloat16).view(-1, 1 << 10))
    resident = []
    for _, block in blocks_of(there, 1 << 20):
        float(block[0, 0])
        resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize())
    assert len(resident) == 64
    assert max(resident) - resident[0] < 1 << 24


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_refused_at_its_place(dtype, value):
    block = torch.zeros(5, 6, dtype=dtype)
    check_finite("w of some", block)
    block[2, 3] = value
    with pytest.raises(CheckpointError, match=rf"w of some holds {value} at \[12, 3\]"):
        check_finite("w of some", block, first_row=10)
    with pytest.raises(CheckpointError, match=rf"w of some holds {value} at \[3\]"):
        check_finite("w of some", block[2])


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_finite_numbers_pass(dtype):
    check_finite("w", torch.full((64, 64), torch.finfo(dtype).max, dtype=dtype))
    check_finite("empty", torch.empty(0, 3, dtype=dtype))
    check_finite("eight bits", torch.ones(3, dtype=torch.float8_e4m3fn))
    check_finite("counts", torch.ones(3, dtype=torch.int64))


def cut_short(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 4)


def replaced(file: Path) -> None:
    """Another file of the same size in its place, as a download or a training that saves again leaves it."""
    other = file.with_suffix(".other")
    shutil.copy2(file, other)
    other.replace(file)


def written_into(file: Path) -> None:
    status = file.stat()
    with file.open("r+b") as opened:
        opened.seek(-4, os.SEEK_END)
        opened.write(b"abcd")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


@pytest.mark.parametrize("change", [cut_short, replaced, written_into])
def test_a_file_that_changed_meanwhile_is_refused(tmp_path, change):
    there = stored(tmp_path, torch.ones(64, 64))
    blocks = blocks_of(there, 1 << 10)
    next(blocks)
    change(there.file)
    told = r"some.safetensors is not the file any more that was opened.*open the checkpoint again"
    for read in (lambda: mapped(there), lambda: mapped(there, slice(63, 64)), lambda: list(blocks_of(there))):
        with pytest.raises(CheckpointError, match=told):
            read()
    if change is replaced:
        # What is being read stays what it was.
        assert torch.equal(torch.cat([block for _, block in blocks]), torch.ones(60, 64))
    else:
        with pytest.raises(CheckpointError, match=told):
            next(blocks)


def test_a_file_that_is_gone_is_refused(tmp_path):
    there = stored(tmp_path, torch.ones(4, 4))
    there.file.unlink()
    with pytest.raises(CheckpointError, match=r"some.safetensors is no longer there"):
        mapped(there)
