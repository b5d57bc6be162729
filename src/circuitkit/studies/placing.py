"""Putting files in place whole: written beside, then named, without waiting for the disk.

A killed process leaves nothing half-written under a file's name. A machine that loses power may, since nothing waits
for the disk; that is found by the checksum of every record, and run again.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from circuitkit.studies.errors import SweepStoppedError

_FULL = {
    errno.ENOSPC: "no space is left",
    errno.EDQUOT: "the quota is used up",
}


def place_first(path: Path, data: bytes, token: str) -> bool:
    """Put a file in place unless there is one; False where there is.

    Raises:
        SweepStoppedError: the disk is full, or has no hard links.
    """
    with _beside(path, data, token) as beside:
        try:
            os.link(beside, path)
        except FileExistsError:
            return False
    return True


def place(path: Path, data: bytes, token: str) -> None:
    """Put a file in place, instead of the one that is there, if any.

    Raises:
        SweepStoppedError: the disk is full.
    """
    with _beside(path, data, token) as beside:
        beside.replace(path)


@contextmanager
def _beside(path: Path, data: bytes, token: str) -> Iterator[Path]:
    beside = path.parent / f".{token}.{path.name}"
    try:
        try:
            beside.write_bytes(data)
            yield beside
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise stopped(error, path) from error


def stopped(error: OSError, path: Path) -> OSError:
    """What to say of a write that failed: a full disk, no permission, no hard links, or the error as it is."""
    if error.errno in _FULL:
        return SweepStoppedError(
            error.errno,
            f"{path.parent}: {_FULL[error.errno]}; what was finished is kept: make room and run again",
        )
    if error.errno == errno.EFBIG:
        return SweepStoppedError(
            error.errno,
            f"{path}: larger than files may be here; what was finished is kept: raise the limit (`ulimit -f`), use "
            "another file system, or return less",
        )
    if error.errno in (errno.EACCES, errno.EROFS):
        return SweepStoppedError(error.errno, f"{path.parent} may not be written to: name another folder")
    if error.errno in (errno.EPERM, errno.ENOTSUP, errno.EMLINK):
        return SweepStoppedError(
            error.errno, f"{path.parent}: no hard link could be made there, and claims are hard links; use another disk"
        )
    return error
