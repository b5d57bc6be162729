"""What a safetensors file says of itself, held against what it is."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from circuitkit.sfn.errors import CheckpointError

_LENGTH = 8
"""Bytes that tell the length of a header."""

_MOST = 100_000_000
"""Bytes that the format allows a header."""

_DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True)
class Stored:
    """A tensor as it lies in its file.

    It is read as a matrix: rows are all of its axes but the last, one after another, columns the last. A vector, or a
    single number, has a column only.

    Attributes:
        name: under which it is stored.
        dtype, shape: of what is stored.
        file: None for a model in memory.
        offset: its first byte in the file.
        nbytes: how many it takes.
        stamp: what tells its file from one that is written in its place.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    file: Path | None
    offset: int
    nbytes: int
    stamp: tuple[int, ...] | None = field(default=None, compare=False)

    @property
    def columns(self) -> int | None:
        """Numbers in a row; None for a vector, whose rows are single numbers."""
        return self.shape[-1] if len(self.shape) > 1 else None

    @property
    def rows(self) -> int:
        """Rows of the matrix, or elements of the vector."""
        return math.prod(self.shape[:-1]) if len(self.shape) > 1 else math.prod(self.shape)

    @property
    def row_nbytes(self) -> int:
        """Bytes of one row."""
        return self.dtype.itemsize * (1 if self.columns is None else self.columns)


def stored_in(file: Path) -> Iterator[Stored]:
    """The tensors of a safetensors file, in the order in which they lie.

    Raises:
        CheckpointError: the file is cut short, or is no such file.
    """
    header, start, status = _header(file)
    end, size, stamp = start, status.st_size, stamp_of(status)
    found = [_stored(file, name, told, start, stamp) for name, told in header.items() if name != "__metadata__"]
    for stored in sorted(found, key=lambda each: (each.offset, each.nbytes)):
        if stored.offset != end:
            raise CheckpointError(f"{file}: {stored.name} does not begin where the tensor before it ends; {_AGAIN}")
        end += stored.nbytes
        if end > size:
            raise CheckpointError(
                f"{file} is cut short: {stored.name} ends at byte {end:,}, and the file has {size:,}; {_AGAIN}"
            )
        yield stored
    if end != size:
        raise CheckpointError(f"{file} has {size - end:,} bytes more than its header tells of; {_AGAIN}")


def stamp_of(status: os.stat_result) -> tuple[int, ...]:
    """What of a file's status changes when it is written to, or another takes its place."""
    return status.st_ino, status.st_size, status.st_mtime_ns


_AGAIN = "download or copy it again"


def _header(file: Path) -> tuple[dict[str, Any], int, os.stat_result]:
    with file.open("rb") as opened:
        status = os.fstat(opened.fileno())
        size = status.st_size
        length = int.from_bytes(opened.read(_LENGTH), "little")
        if size < _LENGTH or length > min(size - _LENGTH, _MOST):
            raise CheckpointError(
                f"{file} is cut short or is no safetensors file: it has {size:,} bytes, and a header of {length:,} is "
                f"announced; {_AGAIN}"
            )
        text = opened.read(length)
    try:
        header = json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"{file} is no safetensors file: its header is no JSON ({error}); {_AGAIN}") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{file} is no safetensors file: its header names no tensors; {_AGAIN}")
    return header, _LENGTH + length, status


def _stored(file: Path, name: str, told: Any, start: int, stamp: tuple[int, ...]) -> Stored:
    try:
        kind, shape = told["dtype"], tuple(_size(each) for each in told["shape"])
        begin, end = (_size(each) for each in told["data_offsets"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{file}: its header does not say what {name} is ({error}); {_AGAIN}") from error
    if not isinstance(kind, str) or kind not in _DTYPES:
        raise CheckpointError(
            f"{file}: {name} is stored as {kind}, which is not read here: save the model in float32, float16 or "
            "bfloat16"
        )
    stored = Stored(name, _DTYPES[kind], shape, file, start + begin, end - begin, stamp)
    if stored.nbytes != math.prod(shape) * stored.dtype.itemsize:
        raise CheckpointError(
            f"{file}: {name} is told to be {kind} {list(shape)}, and has {stored.nbytes:,} bytes; {_AGAIN}"
        )
    return stored


def _size(told: Any) -> int:
    if not isinstance(told, int) or told < 0:
        raise ValueError(f"{told!r} is no size")
    return told
