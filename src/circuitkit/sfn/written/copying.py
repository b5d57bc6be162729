"""Bytes from file to file: within the system where it can, and through memory where it cannot."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

_PIECE = 1 << 25
"""Bytes between two looks at whether to go on."""

# What a system or a file system answers that cannot copy by itself: other kinds of disk, an old kernel, FUSE, NFS.
_UNABLE = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF}


def copied(source: int, target: int, begin: int, to: int, count: int) -> Iterator[int]:
    """Copy a range of an open file into another, and yield the bytes of each piece once it is there.

    Args:
        source, target: file descriptors.
        begin: its first byte in the source.
        to: and in the target.
        count: bytes.

    Raises:
        OSError: the source ends before, or the disk is full.

    >>> import tempfile
    >>> with tempfile.TemporaryFile() as a, tempfile.TemporaryFile() as b:
    ...     _ = a.write(b"a stretch"), a.flush()
    ...     sum(copied(a.fileno(), b.fileno(), 2, 0, 7)), b.read()
    (7, b'stretch')
    """
    within = True
    while count:
        piece = 0
        if within:
            try:
                piece = _within(source, target, begin, to, min(count, _PIECE))
            except OSError as error:
                if error.errno not in _UNABLE:
                    raise
        if not piece:
            # Some file systems answer that nothing was copied rather than that they cannot.
            within = False
            piece = _through_memory(source, target, begin, to, min(count, _PIECE))
        begin, to, count = begin + piece, to + piece, count - piece
        yield piece


def write_at(target: int, data: memoryview, to: int) -> None:
    """Write all of some bytes at a place of an open file.

    Raises:
        OSError: the disk is full.
    """
    while data:
        written = os.pwrite(target, data, to)
        data, to = data[written:], to + written


def _within(source: int, target: int, begin: int, to: int, count: int) -> int:
    if not hasattr(os, "copy_file_range"):
        return 0
    return os.copy_file_range(source, target, count, begin, to)


def _through_memory(source: int, target: int, begin: int, to: int, count: int) -> int:
    data = os.pread(source, count, begin)
    if not data:
        raise OSError(errno.EIO, f"a source ended at byte {begin}, earlier than when it was opened")
    write_at(target, memoryview(data), to)
    return len(data)
