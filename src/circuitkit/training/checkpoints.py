"""Checkpoints on disk: written whole or not at all, found again, and pruned to those that a rule may still choose.

`checkpoints/step-00100/` with `whole.json`, which lists its files and their sizes. Names that begin with a dot are
folders being written or removed; what a killed process left of them is swept up by the next.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Set
from contextlib import contextmanager
from pathlib import Path

from circuitkit.training.errors import TrainingError

_LIST = "whole.json"
_STEP = re.compile(r"step-(\d{5,})")
_FULL = {
    errno.ENOSPC: "no space is left",
    errno.EDQUOT: "the quota is used up",
    errno.EFBIG: "files may not be so large",
}
# What libraries written in C++ and Rust say of the same.
_TOLD = {
    r"No space left on device|os error 28\b": _FULL[errno.ENOSPC],
    r"Disk quota exceeded|os error 122\b": _FULL[errno.EDQUOT],
    r"File too large|os error 27\b": _FULL[errno.EFBIG],
    r"inline_container\.cc|PytorchStreamWriter|iostream error": "a file could not be written in full",
}


def named(step: int) -> str:
    """The name of a step's folder.

    >>> named(100)
    'step-00100'
    """
    return f"step-{step:05d}"


def listed(folder: Path) -> dict[int, Path]:
    """The whole checkpoints of a folder by their steps, in order.

    One that has lost a file, or in which one is cut short, is left out, with a warning that names it.

    >>> listed(Path("not/there"))
    {}
    """
    if not folder.is_dir():
        return {}
    found = {int(match[1]): path for path in folder.iterdir() if (match := _STEP.fullmatch(path.name))}
    whole = {}
    for step in sorted(found):
        if fault := _fault(found[step]):
            warnings.warn(f"the checkpoint {found[step]} is spoiled and left out: {fault}", stacklevel=2)
        else:
            whole[step] = found[step]
    return whole


def last(folder: Path) -> Path | None:
    """The newest whole checkpoint of a folder, from which a training goes on; None where there is none.

    >>> last(Path("not/there")) is None
    True
    """
    return max(listed(folder).items(), default=(0, None))[1]


def check_room(folder: Path, step: int, needed: int) -> None:
    """Refuse a disk that is too full for a checkpoint before it is filled.

    Raises:
        TrainingError: fewer than `needed` bytes are free; the last good checkpoint is named.

    >>> check_room(Path("."), 20, 1)
    """
    folder.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(folder).free < needed:
        raise TrainingError(_no_room(folder, step, _FULL[errno.ENOSPC], needed))


@contextmanager
def written(folder: Path, step: int) -> Iterator[Path]:
    """Give an empty folder to write a checkpoint to, and put it in place once the block ends without an error.

    A reader sees all of it or nothing, also after a kill or a power cut. One that was there before is replaced.

    Args:
        folder: of all checkpoints.
        step: the training's.

    Raises:
        TrainingError: the disk is full; nothing is left of it, and the last good checkpoint is named.

    >>> with tempfile.TemporaryDirectory() as place:
    ...     with written(Path(place), 20) as beside:
    ...         _ = (beside / "weights").write_bytes(b"all")
    ...     [path.name for path in listed(Path(place)).values()]
    ['step-00020']
    """
    beside = hidden(folder, step)
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        yield beside
        _seal(beside, step)
        _put(beside, folder / named(step))
    except Exception as error:
        if (why := _full(error)) is None:
            raise
        filled = sum(path.stat().st_size for path in beside.rglob("*") if path.is_file())
        shutil.rmtree(beside, ignore_errors=True)
        raise TrainingError(_no_room(folder, step, why, filled)) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def hidden(folder: Path, step: int) -> Path:
    """Where a checkpoint is written before it is put in place.

    >>> hidden(Path("checkpoints"), 20).name
    '.step-00020.writing'
    """
    return folder / f".{named(step)}.writing"


def prune(folder: Path, keep: Set[int]) -> None:
    """Remove the checkpoints of all steps but some; a kill meanwhile leaves no half of one.

    >>> prune(Path("not/there"), {10})
    """
    for step, path in listed(folder).items():
        if step not in keep:
            _remove(path)


def sweep_up(folder: Path) -> None:
    """Remove what killed processes left of folders that they were writing or removing.

    Only for the one process that trains in the folder.

    >>> sweep_up(Path("not/there"))
    """
    if folder.is_dir():
        for path in folder.glob(".step-*"):
            shutil.rmtree(path, ignore_errors=True)


def size(path: Path) -> int:
    """The bytes of a checkpoint's files, as it lists them.

    Raises FileNotFoundError where it is none.
    """
    return sum(json.loads((path / _LIST).read_bytes())["files"].values())


def diverged(folder: Path, step: int, how: str) -> TrainingError:
    """The error of a training that is stopped as its numbers are no longer finite.

    >>> str(diverged(Path("not/there"), 3, "the loss is nan"))[:46]
    'at step 3 the loss is nan: the training diverg'
    """
    before = last(folder)
    kept = f"The last good checkpoint, {before}, is kept" if before else "No checkpoint was written before"
    return TrainingError(
        f"at step {step} {how}: the training diverged and was stopped. {kept}. Lower the learning rate"
    )


def _fault(path: Path) -> str | None:
    """What is wrong with a checkpoint, if anything."""
    try:
        files = json.loads((path / _LIST).read_bytes())["files"]
        for name, expected in files.items():
            there = (path / name).stat().st_size
            if there != expected:
                return f"its {name} has {there} bytes of {expected}"
    except FileNotFoundError as error:
        return f"its {Path(error.filename).relative_to(path)} is missing"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"its {_LIST} cannot be read"
    return None


def _seal(beside: Path, step: int) -> None:
    """List the files with their sizes, and wait until all of it is on the disk."""
    files = sorted(path for path in beside.rglob("*") if path.is_file())
    sizes = {str(path.relative_to(beside)): path.stat().st_size for path in files}
    (beside / _LIST).write_text(json.dumps({"step": step, "files": sizes}, indent=1) + "\n")
    folders = sorted(path for path in beside.rglob("*") if path.is_dir())
    for path in [*files, beside / _LIST, *folders, beside]:
        _on_disk(path)


def _put(beside: Path, path: Path) -> None:
    if path.exists():
        _remove(path)
    beside.rename(path)
    _on_disk(path.parent)


def _remove(path: Path) -> None:
    """Take a checkpoint away at one stroke, and then its files one by one."""
    gone = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    path.rename(gone / path.name)
    shutil.rmtree(gone, ignore_errors=True)


def _on_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _full(error: BaseException | None) -> str | None:
    """How a disk is full, where that is what an error or what led to it says."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return _FULL[error.errno]
        if why := next((why for told, why in _TOLD.items() if re.search(told, str(error))), None):
            return why
        error = error.__cause__ or error.__context__
    return None


def _no_room(folder: Path, step: int, why: str, needed: int) -> str:
    before = last(folder)
    kept = f"The last good one, {before}, is kept" if before else "There is no earlier one"
    return (
        f"{folder}: {why} for the checkpoint of step {step}, which needs at least {_told(needed)} "
        f"({_told(shutil.disk_usage(folder).free)} are free). "
        f"{kept}: make room, and call the same again to go on {'from it' if before else 'from the start'}"
    )


def _told(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.2f} MB"
