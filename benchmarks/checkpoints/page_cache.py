"""Whether the system keeps files in memory, and how to make it forget them."""

import ctypes
import gc
import mmap
import os
from collections.abc import Iterable
from pathlib import Path


def drop(paths: Iterable[Path]) -> None:
    """Drop files from the page cache, and see that they are gone.

    Raises SystemExit where more than a hundredth of a file stays, as it does while some process has it mapped.
    """
    # What a finished job has mapped is let go with the last name for it.
    gc.collect()
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
        if (kept := resident(path)) > 0.01:
            raise SystemExit(f"{path.name} is not cold: {100 * kept:.0f} % of it stays in the page cache")


def resident(path: Path) -> float:
    """The share of a file's pages that are in the page cache, by mincore(2)."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
        pages = -(-len(mapped) // mmap.PAGESIZE)
        told = (ctypes.c_ubyte * pages)()
        start = ctypes.c_char.from_buffer(mapped)
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.mincore(ctypes.c_void_p(ctypes.addressof(start)), ctypes.c_size_t(len(mapped)), told) != 0:
                raise SystemExit(f"mincore: {os.strerror(ctypes.get_errno())}")
        finally:
            del start
        return sum(each & 1 for each in bytes(told)) / pages


def warm(paths: Iterable[Path]) -> None:
    """Read files once, so that the page cache has them."""
    for path in paths:
        read(path)


def read(path: Path) -> int:
    """Read a file from its beginning to its end as fast as the system gives it, and give its length."""
    block, total = bytearray(2**22), 0
    with path.open("rb", buffering=0) as file:
        while n := file.readinto(block):
            total += n
    return total
