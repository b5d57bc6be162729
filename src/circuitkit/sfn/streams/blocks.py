"""Stored tensors read in blocks of rows, straight from the page cache, at the rate of the disk.

Each block is a mapping of its own: its memory is given back when nothing refers to it any more, so that what a process
holds does not grow with the tensor. The system reads ahead by itself; advice to do so (`WILLNEED`, or mapping all pages
at once) halved the rate from a cold page cache.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from circuitkit.sfn.errors import CheckpointError
from circuitkit.sfn.streams.headers import Stored, stamp_of

BLOCK = 1 << 25
"""Bytes of a block: many enough to keep a disk busy, few enough to stay out of memory's way."""


def mapped(stored: Stored, at: slice | None = None) -> Tensor:
    """A stored tensor, or some of its rows, over the file's own pages; what is written into it reaches no file.

    Raises:
        CheckpointError: the file was written to, or replaced, since it was opened.
    """
    with file_of(stored) as opened:
        return _map(opened, stored, at)


def blocks_of(stored: Stored, nbytes: int = BLOCK) -> Iterator[tuple[slice, Tensor]]:
    """A stored tensor's rows, so many bytes at a time, at least one row.

    Args:
        stored: of a file.
        nbytes: of a block.

    Raises:
        CheckpointError: the file was written to, or replaced, since it was opened.
    """
    with file_of(stored) as opened:
        for at in slices(stored.rows, stored.row_nbytes, nbytes):
            yield at, _map(opened, stored, at)


@contextmanager
def file_of(stored: Stored) -> Iterator[int]:
    """The descriptor of a tensor's file, which is the file that was opened before, and stays as it was meanwhile.

    Raises:
        CheckpointError: it was written to, replaced or removed, before or meanwhile.
    """
    assert stored.file is not None
    try:
        opened = os.open(stored.file, os.O_RDONLY)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{stored.file} is no longer there: it was moved or removed since it was opened"
        ) from error
    try:
        _check_unchanged(opened, stored)
        try:
            yield opened
        except OSError:
            # Such as an end that comes early.
            _check_unchanged(opened, stored)
            raise
        _check_unchanged(opened, stored)
    finally:
        os.close(opened)


def slices(rows: int, row_nbytes: int, nbytes: int) -> list[slice]:
    """Rows cut into blocks of at most so many bytes, or of one row.

    >>> slices(5, row_nbytes=4, nbytes=8)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    step = max(1, nbytes // max(1, row_nbytes))
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def check_finite(name: str, block: Tensor, first_row: int = 0) -> None:
    """Refuse NaN and infinities.

    Args:
        name: of the tensor, for the message.
        block: some of its rows.
        first_row: their first.

    Raises:
        CheckpointError: there is one; its place is named.
    """
    if not block.dtype.is_floating_point or block.numel() == 0:
        return
    if block.dtype.itemsize == 1:
        # PyTorch finds no extremes of eight bits.
        block = block.float()
    if bool(torch.isfinite(torch.stack(block.aminmax())).all()):
        return
    where = (~torch.isfinite(block)).nonzero()[0].tolist()
    place = [first_row + where[0], *where[1:]] if where else [0]
    raise CheckpointError(
        f"{name} holds {float(block[tuple(where)])} at {place}: such weights compute nothing; get the checkpoint anew, "
        "or leave this tensor out"
    )


def _check_unchanged(opened: int, stored: Stored) -> None:
    """Refuse a file whose header may not be true any more, and whose pages may have no bytes behind them."""
    if stored.stamp is not None and stamp_of(os.fstat(opened)) != stored.stamp:
        raise CheckpointError(
            f"{stored.file} is not the file any more that was opened: it has been written to, or replaced, since; open "
            "the checkpoint again"
        )


def _extent(stored: Stored, at: slice | None) -> tuple[int, int]:
    if at is None:
        return stored.offset, stored.nbytes
    return stored.offset + at.start * stored.row_nbytes, (at.stop - at.start) * stored.row_nbytes


def _map(opened: int, stored: Stored, at: slice | None) -> Tensor:
    _check_unchanged(opened, stored)
    start, count = _extent(stored, at)
    shape = stored.shape
    if at is not None:
        shape = (at.stop - at.start, *(() if stored.columns is None else (stored.columns,)))
    if count == 0:
        return torch.empty(shape, dtype=stored.dtype)
    first = start - start % mmap.ALLOCATIONGRANULARITY
    # Private, not read-only: PyTorch knows no read-only memory, and a write would end the process.
    flags = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", 0)
    pages = mmap.mmap(opened, start - first + count, flags, mmap.PROT_READ | mmap.PROT_WRITE, offset=first)
    flat = torch.frombuffer(pages, dtype=torch.uint8, offset=start - first)
    if stored.offset % stored.dtype.itemsize:
        flat = flat.clone()
    return flat.view(stored.dtype).view(shape)
