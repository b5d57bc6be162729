"""Where a task's questions come from: a file that is named, the folder of data, or the hub."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from circuitkit.tasks.task import TaskError

VARIABLE = "CIRCUITKIT_DATA"
FORMATS = (".jsonl", ".json", ".csv")
_ABSENT = object()


@dataclass(frozen=True)
class Row:
    """A question as a data set has it.

    Attributes:
        place: names it in errors: its file or data set, and its number in it, from 1.
        number: its number among all rows, from 0.
        values: its fields.
    """

    place: str
    number: int
    values: Mapping[str, Any]

    def __getitem__(self, path: str) -> Any:
        """A field, or what lies within one: "question.stem", "choices.0.text"."""
        found: Any = self.values
        for part in path.split("."):
            if isinstance(found, Mapping) and part in found:
                found = found[part]
            elif isinstance(found, list | tuple) and part.isdigit() and int(part) < len(found):
                found = found[int(part)]
            else:
                raise TaskError(f"{self.place}: there is no field {path!r}; it has {', '.join(self.values)}")
        return found

    def get(self, path: str, default: Any = None) -> Any:
        """A field, or something else where there is none."""
        try:
            return self[path]
        except TaskError:
            return default

    def __contains__(self, path: str) -> bool:
        return self.get(path, _ABSENT) is not _ABSENT


@dataclass(frozen=True)
class Rows:
    """All questions of a data set, and where they were found."""

    rows: tuple[Row, ...]
    source: str


@dataclass(frozen=True)
class HubData:
    """A data set of the hub: its id, the split that is asked, and its configuration, where it has several."""

    id: str
    split: str
    config: str | None = None

    def __str__(self) -> str:
        parts = [part for part in (self.config, self.split) if part]
        return f"{self.id} ({', '.join(parts)}) on the hub"


def find(task: str, files: Sequence[str], hubs: Sequence[HubData], data: str | Path | None = None) -> Rows:
    """The questions of a task: of a file, else of the folder of data, else of the hub.

    Args:
        task: its name, for errors.
        files: where the folder that CIRCUITKIT_DATA names has them.
        hubs: where the hub has them.
        data: a file of one's own, or "hub" to pass over the folder of data.

    Raises:
        TaskError: they cannot be had; the message says which ways there are.
    """
    if data is not None and str(data) != "hub":
        return from_file(Path(data))
    folder = None if data is not None else data_folder()
    if folder is not None and all((folder / file).is_file() for file in files):
        return _joined([from_file(folder / file) for file in files])
    try:
        return _joined([from_hub(hub) for hub in hubs])
    except TaskError as error:
        where = f"{VARIABLE} is not set" if folder is None else f"{folder} ({VARIABLE}) has no {_absent(folder, files)}"
        where = where if data is None else "The hub was asked for"
        raise TaskError(
            f"the questions of {task} cannot be had. {where}; and {error}. Either "
            f"set {VARIABLE} to a folder that has {' and '.join(files)}, or let this machine reach the hub, or "
            "give a file of your own: data=PATH"
        ) from error


def data_folder() -> Path | None:
    """The folder that CIRCUITKIT_DATA names; None where it is not set.

    Raises:
        TaskError: it names no folder.
    """
    named = os.environ.get(VARIABLE)
    if not named:
        return None
    folder = Path(named)
    if not folder.is_dir():
        raise TaskError(f"{VARIABLE} is {named!r}, which is no folder: set it to the folder of data, or unset it")
    return folder


def from_file(path: Path) -> Rows:
    """The rows of a file: JSON lines, a JSON list of objects, or CSV with a header.

    Raises:
        TaskError: it cannot be read, or a row is no object; the row is named.
    """
    if path.suffix not in FORMATS:
        raise TaskError(f"{path}: data is read from {', '.join(FORMATS)} files")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    numbered = _READERS[path.suffix](path, text)
    if not numbered:
        raise TaskError(f"{path} holds no questions")
    rows: list[Row] = []
    for place, values in numbered:
        if not isinstance(values, dict):
            raise TaskError(f"{place}: not an object with fields, but {values!r:.60}")
        rows.append(Row(place, len(rows), values))
    return Rows(tuple(rows), str(path))


def _json_lines(path: Path, text: str) -> list[tuple[str, Any]]:
    found = []
    # Not splitlines, which breaks lines at characters that JSON texts may hold.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                found.append((f"{path}, line {number}", json.loads(line)))
            except json.JSONDecodeError as error:
                raise TaskError(f"{path}, line {number}: not JSON ({error})") from error
    return found


def _json_list(path: Path, text: str) -> list[tuple[str, Any]]:
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise TaskError(f"{path} is not JSON: {error}") from error
    if not isinstance(rows, list):
        raise TaskError(f"{path}: a .json file of data is a list of objects")
    return [(f"{path}, row {number}", row) for number, row in enumerate(rows, start=1)]


def _comma_separated(path: Path, text: str) -> list[tuple[str, Any]]:
    found = []
    for number, row in enumerate(csv.DictReader(io.StringIO(text, newline="")), start=1):
        if None in row or None in row.values():
            raise TaskError(f"{path}, row {number}: it has not as many fields as the header")
        found.append((f"{path}, row {number}", row))
    return found


_READERS = {".jsonl": _json_lines, ".json": _json_list, ".csv": _comma_separated}


def from_hub(hub: HubData) -> Rows:
    """The rows of a data set of the hub.

    Raises:
        TaskError: `datasets` is not installed, or the hub does not give it.
    """
    try:
        import datasets
    except ImportError as error:
        raise TaskError("reading from the hub needs datasets: pip install 'circuitkit[eval]'") from error
    try:
        loaded = datasets.load_dataset(hub.id, hub.config, split=hub.split)
    # What fails on the way to the hub has no class in common.
    except Exception as error:
        raise TaskError(f"{hub} cannot be loaded: {' '.join(str(error).split()) or type(error).__name__}") from error
    rows = tuple(Row(f"{hub}, row {number}", number - 1, dict(row)) for number, row in enumerate(loaded, start=1))
    return Rows(rows, str(hub))


def _joined(parts: Sequence[Rows]) -> Rows:
    rows = [row for part in parts for row in part.rows]
    numbered = tuple(Row(row.place, number, row.values) for number, row in enumerate(rows))
    return Rows(numbered, " and ".join(part.source for part in parts))


def _absent(folder: Path, files: Sequence[str]) -> str:
    return " and no ".join(file for file in files if not (folder / file).is_file())
