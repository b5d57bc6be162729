"""Files of a folder: what each holds, read by its class when it is asked for, and which cannot be read."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from circuitkit.report.errors import ReportError
from circuitkit.report.kinds import READERS, UNREADABLE, kind_of, spoiled

_OPEN = frozenset({"table", "text", "figure"})
"""Kinds that any file may be of, so that a link could put what is none of the folder's into the page."""


@dataclass(frozen=True)
class File:
    """A file of a folder.

    Attributes:
        path: where it is.
        kind: what it holds: a key of `kinds.READERS`, or "provenance", "table", "figure", "text" or "generated".
        title: what it is called on the page.
        stamp: when it was last written, and its size in bytes, as it was found.
    """

    path: Path
    kind: str
    title: str
    stamp: tuple[int, int] | None = None

    @property
    def stem(self) -> str:
        """Its name without the suffix."""
        return self.path.stem

    @property
    def value(self) -> Any:
        """What it holds, read by its class.

        Raises:
            ReportError: it is cut short, or altered.
        """
        return self._read[0]

    @property
    def warned(self) -> tuple[str, ...]:
        """What its class warned of while it was read; errors as of `value`."""
        return self._read[1]

    @cached_property
    def _read(self) -> tuple[Any, tuple[str, ...]]:
        try:
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always", UserWarning)
                return READERS[self.kind].load(self.path), tuple(str(each.message) for each in warned)
        except UNREADABLE as error:
            raise spoiled(self.path, error) from error

    @cached_property
    def table(self) -> pd.DataFrame:
        """What a table holds; a cell is empty where nothing stands in it, and not where it says `NA` or `None`.

        Raises:
            ReportError: it is cut short, or no table.
        """
        try:
            return pd.read_csv(self.path, keep_default_na=False, na_values=[""])
        except pd.errors.EmptyDataError:
            return pd.DataFrame()
        except UNREADABLE as error:
            raise spoiled(self.path, error) from error

    @cached_property
    def sha256(self) -> str:
        """The hash of its bytes.

        Raises:
            ReportError: it was written since it was found, so that what is shown may be of other bytes.
        """
        try:
            with self.path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            unchanged = self.stamp is None or self.stamp == _stamp(self.path)
        except OSError:
            unchanged = False
        if not unchanged:
            raise ReportError(
                f"{self.path} was changed or taken away while the report was made: wait until what writes it has "
                "ended, and make the report again"
            )
        return found


def files_in(entries: Sequence[Path], folder: Path) -> tuple[list[File], list[str], list[str]]:
    """The files that can be shown, why others cannot be read, and which are not looked at."""
    files, unread, notes = [], [], []
    for path in entries:
        if not path.is_file():
            continue
        try:
            kind = kind_of(path)
            if kind is None:
                continue
            if kind in _OPEN and path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
                notes.append(f"{path.name} is a link to a file elsewhere, which is not shown: copy it here to see it.")
                continue
            file = File(path, kind, _title(path), _stamp(path))
            if kind in READERS:
                _ = file.value
            files.append(file)
        except ReportError as error:
            unread.append(str(error))
    return files, unread, notes


def _stamp(path: Path) -> tuple[int, int]:
    try:
        told = path.stat()
    except OSError as error:
        raise spoiled(path, error) from error
    return told.st_mtime_ns, told.st_size


def _title(path: Path) -> str:
    plain = re.sub(r"-(prompt|layer|head)(\d+)", r", \1 \2", path.stem).replace("_", " ")
    return plain[:1].upper() + plain[1:]
