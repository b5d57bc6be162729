"""The folder of a sweep: a header, the lists of cells that were asked for, and one file for every cell that ended.

`sweep.json`, `lists/HASH.json`, `done/KEY.json` with `done/KEY.TOKEN.NAME.safetensors`, `failed/KEY.json`,
`claims/`, `spoiled/`. Names that begin with a dot are files being written.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal

import circuitkit
from circuitkit.studies.errors import SweepError
from circuitkit.studies.placing import place, place_first, stopped
from circuitkit.studies.records import Record, SpoiledError

FORMAT = 2
_HEADER = "sweep.json"
Ended = Literal["done", "failed"]


class Folder:
    """A sweep's folder, which must be there.

    Raises:
        SweepError: it is no sweep's folder, or one of another format.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        header = self.path / _HEADER
        try:
            told = json.loads(header.read_bytes())
            number, by = told["format"], told["circuitkit"]
        except FileNotFoundError:
            raise SweepError(f"{self.path} is not a sweep's folder: it has no {_HEADER}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise SweepError(
                f"{header} is spoiled; if the folder is a sweep's, write "
                f'{{"format": {FORMAT}, "circuitkit": "{circuitkit.__version__}"}} into it'
            ) from error
        if number != FORMAT:
            raise SweepError(
                f"{self.path} was written by circuitkit {by} in format {number}, and this is circuitkit "
                f"{circuitkit.__version__}, which reads format {FORMAT}: use that version, or another folder"
            )

    @classmethod
    def made(cls, path: str | Path, token: str) -> Folder:
        """A sweep's folder, made where there is none or an empty one.

        Raises:
            SweepError: there are other things in it, or it is of another format.
            SweepStoppedError: the disk is full.
        """
        path = Path(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            entries = [entry.name for entry in path.iterdir() if not entry.name.startswith(".")]
        except (FileExistsError, NotADirectoryError) as error:
            raise SweepError(f"{path} is a file: a sweep is kept in a folder") from error
        except OSError as error:
            raise stopped(error, path / _HEADER) from error
        if entries and _HEADER not in entries:
            raise SweepError(f"{path} holds {entries[0]!r} and no sweep: name a new folder")
        header = json.dumps({"format": FORMAT, "circuitkit": circuitkit.__version__}).encode() + b"\n"
        if not entries:
            place_first(path / _HEADER, header, token)
        folder = cls(path)
        for name in ("done", "failed", "claims", "lists"):
            try:
                (path / name).mkdir(exist_ok=True)
            except OSError as error:
                raise stopped(error, path / name) from error
        return folder

    def ended(self, how: Ended) -> set[str]:
        """The keys of the cells that are done, or that failed."""
        try:
            with os.scandir(self.path / how) as entries:
                return {e.name[:-5] for e in entries if e.name.endswith(".json") and e.name[0] != "."}
        except FileNotFoundError:
            return set()

    def has(self, how: Ended, key: str) -> bool:
        """Whether a cell is done, or failed, now.

        Opening the folder makes a network file system look again.
        """
        os.close(os.open(self.path / how, os.O_RDONLY))
        return (self.path / how / f"{key}.json").exists()

    def read(self, how: Ended, key: str) -> Record | None:
        """A cell's record; None where there is none.

        One that is spoiled, or whose stored values are, is set aside, with a warning that names it, and counts as none.
        """
        path = self.path / how / f"{key}.json"
        try:
            # Half the time of reading a hundred thousand files is Python's own file objects.
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            status = os.fstat(descriptor)
            data = os.read(descriptor, status.st_size + 1)
        finally:
            os.close(descriptor)
        try:
            record = Record.from_bytes(data)
            for stored in record.stored.values():
                self._check(self.path / how / stored.file, stored.size)
        except (SpoiledError, ValueError, TypeError, KeyError) as error:
            self._set_aside(path, status, error, "the cell will be run again")
            return None
        return record

    def _check(self, path: Path, size: int) -> None:
        if not path.is_file() or path.stat().st_size != size:
            raise SpoiledError(f"its {path.name} is {'cut short' if path.is_file() else 'missing'}")

    def _set_aside(self, path: Path, read: os.stat_result, error: Exception, then: str) -> None:
        aside = self.path / "spoiled" / f"{time.time_ns()}.{path.name}"
        aside.parent.mkdir(exist_ok=True)
        try:
            # Another process may have set it aside and put a whole one there.
            if path.stat().st_ino == read.st_ino:
                path.rename(aside)
                # What was stored with it came before it; what is newer is another process's.
                for beside in path.parent.glob(f"{path.stem}.*.safetensors"):
                    if beside.stat().st_mtime_ns <= read.st_mtime_ns:
                        beside.rename(aside.parent / f"{aside.name.partition('.')[0]}.{beside.name}")
        except FileNotFoundError:
            return
        warnings.warn(f"{path} is spoiled ({error}); it was set aside as {aside}, and {then}", stacklevel=4)

    def write(self, record: Record, contents: Mapping[str, bytes], token: str) -> bool:
        """Keep a cell's record and what is stored beside it; False where another process was first.

        Raises:
            SweepStoppedError: the disk is full; nothing is left half-written.
        """
        if record.failure is not None:
            place(self.path / "failed" / f"{record.key}.json", record.to_bytes(), token)
            return True
        done, first = self.path / "done", False
        names = {name: f"{record.key}.{token}.{number}.safetensors" for number, name in enumerate(contents)}
        try:
            for name, data in contents.items():
                place(done / names[name], data, token)
            stored = {name: replace(each, file=names[name]) for name, each in record.stored.items()}
            first = place_first(done / f"{record.key}.json", replace(record, stored=stored).to_bytes(), token)
        finally:
            if not first:
                for name in names.values():
                    (done / name).unlink(missing_ok=True)
        (self.path / "failed" / f"{record.key}.json").unlink(missing_ok=True)
        return first

    def ask_for(self, keys: Sequence[str], token: str) -> None:
        """Keep the list of cells that are asked for; the one asked for last is the newest."""
        told = {
            "circuitkit": circuitkit.__version__,
            "python": sys.version.split()[0],
            "command": shlex.join(sys.argv),
            "time": time.time(),
            "cells": list(keys),
        }
        path = self.path / "lists" / _list_name(keys)
        if path.exists() and self._list(path) is not None:
            os.utime(path)
        else:
            place_first(path, json.dumps(told, indent=0).encode(), token)

    def lists(self) -> list[list[str]]:
        """The lists of cells that were asked for, the newest first."""
        paths = [path for path in (self.path / "lists").glob("*.json") if not path.name.startswith(".")]
        paths.sort(key=lambda path: (-path.stat().st_mtime_ns, path.name))
        found = [self._list(path) for path in paths]
        return [keys for keys in found if keys is not None]

    def _list(self, path: Path) -> list[str] | None:
        status = path.stat()
        try:
            keys = json.loads(path.read_bytes())["cells"]
            if _list_name(keys) != path.name:
                raise SpoiledError("it is not the list of its name")
        except (ValueError, KeyError, TypeError) as error:
            self._set_aside(path, status, error, "the next run of its sweep writes it anew")
            return None
        return [str(key) for key in keys]

    def sweep_up(self, living: set[str], older: float) -> None:
        """Remove what processes that are gone were writing.

        Args:
            living: tokens of processes that are not gone.
            older: how many seconds ago a file must have been written, since a process may have come since.
        """
        for name in ("done", "failed", "lists", "claims", "."):
            for path in _hidden(self.path / name):
                # It may be another process's that puts it in place this moment.
                with suppress(FileNotFoundError):
                    if path.name.split(".")[1] not in living and time.time() - path.stat().st_mtime > older:
                        path.unlink()


def _list_name(keys: Sequence[str]) -> str:
    return f"{hashlib.sha256(' '.join(keys).encode()).hexdigest()[:32]}.json"


def _hidden(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        yield from [Path(e.path) for e in entries if e.name[0] == "." and e.is_file()]
