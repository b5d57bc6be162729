"""A sweep's results as one table."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors.torch import load
from torch import Tensor

from circuitkit.records import whole_file
from circuitkit.results import Result
from circuitkit.showing import Shown
from circuitkit.studies.errors import SweepError
from circuitkit.studies.folder import Folder
from circuitkit.studies.records import Record

_LONGEST = 60
"""Letters of a value that a cell of a notebook's table has room for."""


@dataclass(frozen=True, eq=False)
class Sweep(Shown):
    """The cells of a sweep that have ended, in the order in which they were asked for.

    Attributes:
        path: the sweep's folder.
        records: what is kept of each cell.
        cells: how many were asked for.
        older: the keys of those records that the newest list of cells has not.
    """

    path: Path
    records: tuple[Record, ...]
    cells: int
    older: frozenset[str] = frozenset()

    @classmethod
    def load(cls, path: str | Path, *, older: bool = False) -> Sweep:
        """Read a sweep's folder: the cells of the list that was asked for last, as far as they have ended.

        Spoiled files are set aside with a warning; where no list is left, all that ended is read.

        Args:
            path: the folder.
            older: read all that ended, by other parameters, code and versions too; the column `older` marks it.

        Raises:
            SweepError: there is no sweep, or one of another format.
        """
        folder = Folder(path)
        lists = folder.lists()
        done, failed = folder.ended("done"), folder.ended("failed")
        everything = [*dict.fromkeys(key for keys in lists for key in keys), *sorted(done | failed)]
        newest = dict.fromkeys(lists[0] if lists else everything)
        asked = dict.fromkeys(everything) if older else newest
        found: list[Record] = []
        for key in asked:
            record = folder.read("done", key) if key in done else None
            if record is None and key in failed:
                record = folder.read("failed", key)
            if record is not None:
                found.append(record)
        others = frozenset(record.key for record in found if record.key not in newest)
        return cls(folder.path, tuple(found), len(asked), others)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """A row a cell: its parameters and what it returned; where a cell failed, the column `error` says how.

        A returned value that has a parameter's name is `returned.NAME`. Of a `Result`, its baselines and largest
        effect are shown. Where cells of several functions ended, `function` comes first.
        """
        frame = _frame(self.records)
        if self.older:
            frame["older"] = [record.key in self.older for record in self.records]
        if any(record.failure for record in self.records):
            frame["error"] = [None if record.failure is None else record.failure.error for record in self.records]
        return frame

    def _strongest(self) -> pd.DataFrame:
        """What cells differ in and what they gave, without what all have in common and what is no short value."""
        texts = self.frame.map(str)
        names = {name for record in self.records for name in record.parameters} | {"error"}
        brief = (texts.map(len).max() <= _LONGEST) | texts.columns.isin(names)
        differs = (texts.nunique() > 1) | (texts.columns == "error") if len(texts) > 1 else brief
        return self.frame.loc[:, brief & differs]

    @property
    def failures(self) -> pd.DataFrame:
        """A row a failed cell: its parameters, `error`, `traceback`, and `attempt`, how often it was run."""
        failed = [(record, record.failure) for record in self.records if record.failure is not None]
        frame = _frame([record for record, _ in failed])
        frame["error"] = [failure.error for _, failure in failed]
        frame["traceback"] = [failure.traceback for _, failure in failed]
        frame["attempt"] = [record.attempt for record, _ in failed]
        return frame

    def value(self, row: int, name: str = "value") -> Result | Tensor:
        """The result or tensor that the cell of a row returned, alone or under a name.

        Raises:
            SweepError: it returned none of that name, or its file is spoiled.
        """
        record = self.records[row]
        if name not in record.stored:
            raise SweepError(
                f"row {row} stored no {name!r}: it has {sorted(record.stored) or 'numbers and texts only'}"
            )
        stored = record.stored[name]
        path = self.path / "done" / stored.file
        data = path.read_bytes() if path.is_file() else b""
        if zlib.crc32(data) != stored.crc32:
            raise SweepError(
                f"{path} is missing or altered: remove {record.key}.json beside it, and run the sweep again"
            )
        if stored.kind == "tensor":
            return load(data)["value"]
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "result.safetensors"
            copy.write_bytes(data)
            return Result.load(copy)

    def to_csv(self, path: str | Path) -> Path:
        """Write `frame` as CSV, whole or not at all, and give the path."""
        path = Path(path)
        with whole_file(path) as beside:
            self.frame.to_csv(beside, index=False)
        return path

    def __len__(self) -> int:
        return len(self.records)

    def __repr__(self) -> str:
        failed = sum(record.failure is not None for record in self.records)
        return f"Sweep({str(self.path)!r}: {len(self) - failed} of {self.cells} cells done, {failed} failed)"


def _frame(records: Iterable[Record]) -> pd.DataFrame:
    records = list(records)
    several = len({record.function for record in records}) > 1
    parameters = dict.fromkeys(name for record in records for name in record.parameters)
    returned = dict.fromkeys(name for record in records for name in record.columns)
    columns: dict[str, list[Any]] = {"function": [record.function for record in records]} if several else {}
    for name in parameters:
        columns[name] = [record.parameters.get(name) for record in records]
    for name in returned:
        columns[name] = [record.columns.get(name) for record in records]
    return pd.DataFrame(columns)
