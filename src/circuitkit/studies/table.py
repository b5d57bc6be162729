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
from circuitkit.studies.errors import SweepError
from circuitkit.studies.folder import Folder
from circuitkit.studies.records import Record


@dataclass(frozen=True, eq=False)
class Sweep:
    """The cells of a sweep that have ended, in the order in which they were asked for.

    Attributes:
        path: the sweep's folder.
        records: what is kept of each cell.
        cells: how many were asked for.
    """

    path: Path
    records: tuple[Record, ...]
    cells: int

    @classmethod
    def load(cls, path: str | Path) -> Sweep:
        """Read a sweep's folder: the cells of all lists that were asked for, the newest list first.

        Of cells that differ in nothing but the code, the newest list's counts. SpoiledError files are set aside with a
        warning.

        Raises:
            SweepError: there is no sweep, or one of another format.
        """
        folder = Folder(path)
        lists = folder.lists()
        done, failed = folder.ended("done"), folder.ended("failed")
        asked = dict.fromkeys(key for keys in lists for key in keys)
        found: dict[str, Record] = {}
        for key in [*asked, *sorted((done | failed) - asked.keys())]:
            record = folder.read("done", key) if key in done else None
            if record is None and key in failed:
                record = folder.read("failed", key)
            if record is not None:
                found.setdefault(record.inputs, record)
        return cls(folder.path, tuple(found.values()), len(asked))

    @cached_property
    def frame(self) -> pd.DataFrame:
        """A row a cell: its parameters and what it returned; where a cell failed, the column `error` says how.

        A returned value that has a parameter's name is `returned.NAME`. Of a `Result`, its baselines and largest
        effect are shown. Where cells of several functions ended, `function` comes first.
        """
        frame = _frame(self.records)
        if any(record.failure for record in self.records):
            frame["error"] = [None if record.failure is None else record.failure.error for record in self.records]
        return frame

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
