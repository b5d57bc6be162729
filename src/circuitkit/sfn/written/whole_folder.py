"""A folder that appears all at once or not at all, and what killed processes left of others.

It is written as `.NAME.circuitkit-writing` beside its place, under the lock `.NAME.circuitkit-lock`, which the system
lets go of when a process dies, however it dies.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from circuitkit.sfn.errors import SfnError

_WRITING, _LOCK = ".circuitkit-writing", ".circuitkit-lock"
_FULL = {
    errno.ENOSPC: "no space is left",
    errno.EDQUOT: "the quota is used up",
    errno.EFBIG: "files may not be so large (see `ulimit -f`, or the file system's own limit)",
}


class WritingError(SfnError):
    """A folder that cannot be written where it was asked for."""


@contextmanager
def whole_folder(out: Path, needed: int) -> Iterator[Path]:
    """Give an empty folder to write to, and put it in place once the block ends without an error.

    What killed processes were writing in the same parent is removed first. After an error, Ctrl-C included, nothing is
    left.

    Args:
        out: must not be there.
        needed: bytes that will be written.

    Raises:
        WritingError: `out` is there, another process is writing it, or the disk is full.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     with whole_folder(Path(place) / "merged", 3) as beside:
    ...         _ = (beside / "weights").write_bytes(b"all")
    ...     [str(path.relative_to(place)) for path in Path(place).rglob("*")]
    ['merged', 'merged/weights']
    """
    refuse_existing(out)
    beside = out.parent / f".{out.name}{_WRITING}"
    with ExitStack() as undone:
        try:
            _make_parents(out.parent, undone)
            if not (lock := _Lock.taken(out.parent / f".{out.name}{_LOCK}")):
                raise WritingError(f"another process is writing {out}: wait for it, or name another folder")
            undone.callback(lock.release)
            sweep_up(out.parent)
            _remove(beside)
            check_room(out, needed)
            undone.callback(_remove, beside)
            beside.mkdir()
            yield beside
            _on_disk(beside)
            _put(beside, out)
        except OSError as error:
            raise _told(error, out, needed) from error


def refuse_existing(out: Path) -> None:
    """Raises WritingError where something is already there.

    >>> refuse_existing(Path("not/there"))
    """
    if out.exists() or out.is_symlink():
        raise WritingError(f"{out} is there already, and nothing is overwritten: name another folder, or remove it")


def check_room(out: Path, needed: int) -> None:
    """Raises WritingError where the disk has fewer free bytes than are needed.

    >>> check_room(Path("not/there"), 1)
    """
    at = next(parent for parent in out.absolute().parents if parent.exists())
    if shutil.disk_usage(at).free < needed:
        raise WritingError(_no_room(out, _FULL[errno.ENOSPC], needed))


def sweep_up(parent: Path) -> None:
    """Remove what processes that are gone were writing in a folder; what a living one writes is locked, and stays.

    >>> sweep_up(Path("not/there"))
    """
    for suffix in (_WRITING, _LOCK):
        for path in parent.glob(f".*{suffix}"):
            name = path.name.removesuffix(suffix)
            # Another user's, in a folder that is shared, is for that user to remove.
            with suppress(PermissionError):
                if lock := _Lock.taken(parent / f"{name}{_LOCK}"):
                    _remove(parent / f"{name}{_WRITING}")
                    lock.release()


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, would outlast a power cut.

    >>> sync(Path("."))
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Lock:
    """A file that one process holds."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path, self._descriptor = path, descriptor

    @classmethod
    def taken(cls, path: Path) -> _Lock | None:
        """None where it is held, by another process or by this one."""
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Who held it before may have removed the file in the meantime.
                if os.fstat(descriptor).st_ino == path.stat().st_ino:
                    return cls(path, descriptor)
            except FileNotFoundError:
                pass
            except BlockingIOError:
                os.close(descriptor)
                return None
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def release(self) -> None:
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)


def _make_parents(parent: Path, undone: ExitStack) -> None:
    """Make the folders above, which are empty and go away again if nothing comes into them."""
    missing = [path for path in (parent, *parent.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        undone.callback(_remove_empty, path)


def _remove_empty(path: Path) -> None:
    with suppress(OSError):
        path.rmdir()


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _on_disk(beside: Path) -> None:
    """Wait until all of it would outlast a power cut."""
    paths = sorted(beside.rglob("*"), key=lambda path: path.is_dir())
    for path in [*paths, beside]:
        sync(path)


def _put(beside: Path, out: Path) -> None:
    refuse_existing(out)
    beside.rename(out)
    sync(out.parent)


def _told(error: OSError, out: Path, needed: int) -> WritingError:
    """What to say of a write that failed."""
    if error.errno in _FULL:
        return WritingError(_no_room(out, _FULL[error.errno], needed))
    ours = error.filename is None or Path(error.filename).is_relative_to(out.parent)
    if ours and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return WritingError(f"{out.parent} may not be written to: name another folder")
    if ours and isinstance(error, FileExistsError | NotADirectoryError):
        return WritingError(f"{out.parent} is a file, or lies in one, and holds no folders: name another place")
    return WritingError(f"{out} could not be written, and nothing is left of it: {error}")


def _no_room(out: Path, why: str, needed: int) -> str:
    at = next(parent for parent in out.absolute().parents if parent.exists())
    return (
        f"{out}: {why}; it needs {needed / 1e6:,.1f} MB, and {shutil.disk_usage(at).free / 1e6:,.1f} MB are free in "
        f"{at}. Nothing is left of it: make room, or name a folder on another disk"
    )
