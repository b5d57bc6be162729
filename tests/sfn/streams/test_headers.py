"""What a safetensors file says of itself, and the files that are refused."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from circuitkit.sfn import CheckpointError
from circuitkit.sfn.streams.blocks import mapped
from circuitkit.sfn.streams.headers import stored_in

SHAPES = st.lists(st.integers(0, 5), max_size=4).map(tuple)
DTYPES = st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool])


def file_with(tmp_path, **tensors):
    file = tmp_path / "model.safetensors"
    save_file(tensors or {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(4, dtype=torch.float16)}, file)
    return file


def spoiled(file, change):
    """The file with another header."""
    whole = file.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.dumps(change(json.loads(whole[8 : 8 + length]))).encode()
    file.write_bytes(len(header).to_bytes(8, "little") + header + whole[8 + length :])
    return file


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.text("abc.é", min_size=1, max_size=6), st.tuples(SHAPES, DTYPES), min_size=1, max_size=5))
def test_tensors_are_found_where_safetensors_put_them(tmp_path_factory, forms):
    tensors = {name: torch.randn(shape).mul(9).to(dtype) for name, (shape, dtype) in forms.items()}
    file = file_with(tmp_path_factory.mktemp("file"), **tensors)
    found = {stored.name: stored for stored in stored_in(file)}
    expected = load_file(file)
    assert found.keys() == expected.keys()
    for name, stored in found.items():
        assert (stored.dtype, stored.shape) == (expected[name].dtype, tuple(expected[name].shape))
        assert torch.equal(mapped(stored), expected[name])
        assert stored.rows * stored.row_nbytes == stored.nbytes
    ends = [stored.offset + stored.nbytes for stored in stored_in(file)]
    assert ends == sorted(ends)


@pytest.mark.parametrize("kept", [0, 3, 8, 40])
def test_a_file_cut_short_in_its_header_is_refused(tmp_path, kept):
    file = file_with(tmp_path)
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(
        CheckpointError, match=rf"model.safetensors is cut short or is no safetensors file.*{kept} bytes"
    ):
        list(stored_in(file))


def test_a_file_cut_short_in_its_tensors_is_refused_by_the_tensor(tmp_path):
    file = file_with(tmp_path)
    last = list(stored_in(file))[-1].name
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=rf"model.safetensors is cut short: {last} ends at byte .*copy it again"):
        list(stored_in(file))


def test_a_file_with_more_than_it_tells_of_is_refused(tmp_path):
    file = file_with(tmp_path)
    file.write_bytes(file.read_bytes() + b"\0\0")
    with pytest.raises(CheckpointError, match="has 2 bytes more than its header tells of"):
        list(stored_in(file))


CHANGES = {
    "no JSON": (None, "its header is no JSON"),
    "a list": (lambda told: [1], "its header names no tensors"),
    "another shape": (
        lambda told: told | {"a": told["a"] | {"shape": [2, 2]}},
        r"a is told to be F32 \[2, 2\], and has 24",
    ),
    "another dtype": (
        lambda told: told | {"a": told["a"] | {"dtype": "F4"}},
        "a is stored as F4, which is not read here",
    ),
    "no offsets": (lambda told: told | {"a": {"dtype": "F32", "shape": [2, 3]}}, "does not say what a is"),
    "a size below nothing": (
        lambda told: told | {"a": told["a"] | {"shape": [-2, -3]}},
        r"does not say what a is \(-2 is no size\)",
    ),
    "offsets that are no numbers": (
        lambda told: told | {"a": told["a"] | {"data_offsets": ["0", "24"]}},
        r"does not say what a is \('0' is no size\)",
    ),
    "a gap": (
        lambda told: {"a": told["a"]} | {"b": told["b"] | {"data_offsets": [28, 36]}},
        "b does not begin where",
    ),
}


@pytest.mark.parametrize("spoiling", CHANGES)
def test_headers_that_do_not_fit_are_refused_by_name(tmp_path, spoiling):
    change, message = CHANGES[spoiling]
    file = file_with(tmp_path)
    if change is None:
        whole = file.read_bytes()
        file.write_bytes(whole[:8] + b"x" + whole[9:])
    else:
        spoiled(file, change)
    with pytest.raises(CheckpointError, match=message):
        list(stored_in(file))
