"""What a folder of results holds, and the folders in it: every file with its kind, read when it is asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from circuitkit.report.errors import ReportError
from circuitkit.report.files import File as File
from circuitkit.report.files import files_in
from circuitkit.report.kinds import READERS

DEPTH = 4
"""How deep folders within the folder are read."""

_MOST_CELLS = 24
"""How many results of a sweep's cells are shown one by one."""

_OWN_FOLDERS = {"sweep": frozenset({"done", "failed", "claims", "lists", "spoiled"})}
"""Folders that belong to a file, whose class reads them."""

_UNENDED: Mapping[str, tuple[str, str]] = {
    "responses.jsonl": ("evaluation.json", "The evaluation"),
    "recipe.json": ("trained.json", "The training"),
}
"""What is there from the beginning, what its end leaves beside it, and what it is."""

_WEIGHTS = re.compile(r"(model|adapter_model|pytorch_model|consolidated)\b.*\.(safetensors|bin|index\.json)$")
"""Names of a model's weights, as libraries of models write them."""

_TWINS: Mapping[str, tuple[str, ...]] = {
    "training": ("curve.csv", "loss.png", "loss.svg"),
    "evaluation": ("table.csv", "accuracy.png", "accuracy.svg"),
    "harness": ("table.csv", "harness.png", "harness.svg"),
}
"""What is drawn and tabled of a file under other names than its own."""


@dataclass(frozen=True)
class Contents:
    """What a folder holds.

    Attributes:
        folder: the folder.
        name: what it is called: its path from the folder that is shown.
        files: its files of a known kind, by name.
        parts: the folders in it that hold some.
        beside: the folder that is shown beside it; None where there is none.
        notes: what in it is not shown, and why.
        unread: the files in it that cannot be read, and why: more are added when they are met with.
    """

    folder: Path
    name: str
    files: tuple[File, ...]
    parts: tuple[Contents, ...] = ()
    beside: Contents | None = None
    notes: tuple[str, ...] = ()
    unread: list[str] = field(default_factory=list, compare=False)
    _used: set[Path] = field(default_factory=set, compare=False, repr=False)

    @classmethod
    def of(cls, folder: str | Path, *, beside: str | Path | None = None) -> Contents:
        """Look through a folder, and the one beside it.

        Raises:
            ReportError: there is no such folder, or nothing in it can be shown.
        """
        folder, other = Path(folder), None if beside is None else Path(beside)
        name, its_name = folder.resolve().name, "" if other is None else other.resolve().name
        if other is not None and name == its_name:
            name, its_name = (f"{each.resolve().parent.name}/{name}" for each in (folder, other))
        found = _all_of(folder, name)
        return found if other is None else replace(found, beside=_all_of(other, its_name))

    def of_kind(self, *kinds: str) -> tuple[File, ...]:
        """Its files of some kinds that are not used yet, in the order of their names."""
        return tuple(file for file in self.files if file.kind in kinds and file.path not in self._used)

    def used(self, *paths: Path | str) -> None:
        """Tell that files are shown: with their tables and figures, which have the same stem, they are not shown again.

        A text is the name of a file of the folder.
        """
        kinds = {file.path: file.kind for file in self.files}
        for path in paths:
            whole = path if isinstance(path, Path) else self.folder / path
            twins = [each.path for each in self.files if each.kind in ("table", "figure") and each.stem == whole.stem]
            others = [whole.with_name(name) for name in _TWINS.get(kinds.get(whole, ""), ())]
            self._used.update([whole, *twins, *others])

    def table_of(self, file: File) -> pd.DataFrame | None:
        """What one of its tables holds; None where it cannot be read, which the page then tells."""
        try:
            return file.table
        except ReportError as error:
            self.cannot_read(file, error)
            return None

    def cannot_read(self, file: File, error: ReportError) -> None:
        """Tell that a file is not shown, and why."""
        if str(error) not in self.unread:
            self.unread.append(str(error))
        self._used.add(file.path)

    def walk(self) -> Iterator[Contents]:
        """This folder, and all in it."""
        yield self
        for part in self.parts:
            yield from part.walk()

    @cached_property
    def provenance(self) -> Mapping[str, Any]:
        """Where its results come from: what its provenance file tells, or else its first result."""
        for file in self.files:
            if file.kind == "provenance":
                told: dict[str, Any] = json.loads(file.path.read_bytes())
                return told
        for file in self.files:
            if file.kind in READERS and (known := _origin(file)):
                return known
        return {}


def _origin(file: File) -> Mapping[str, Any]:
    """Where one result comes from, as far as it says; a sweep, as its lists of cells say, each of a run of its own."""
    if file.kind == "manifest":
        return dict(file.value.told)
    if file.kind != "sweep":
        return dict(getattr(file.value, "provenance", None) or {})
    lists = [json.loads(path.read_bytes()) for path in sorted(file.path.parent.glob("lists/*.json"))]
    cells = [record.parameters for record in file.value.records]
    alike = _alike(cells)
    same = {name: cells[0][name] for name in cells[0] if name in alike} if len(cells) > 1 else {}
    return {f"run {number}": same | _of_list(told) for number, told in enumerate(sorted(lists, key=_time), 1)}


def _time(told: Mapping[str, Any]) -> float:
    return float(told["time"])


def _of_list(told: Mapping[str, Any]) -> dict[str, Any]:
    """Where the cells of one list come from."""
    made = datetime.fromtimestamp(_time(told), UTC).isoformat(timespec="seconds")
    versions = {name: told[name] for name in ("circuitkit", "python")}
    return {"command": told["command"], "time": made, "versions": versions, "cells": len(told["cells"])}


def _all_of(folder: Path, name: str) -> Contents:
    """What a folder holds; refused where it is nothing."""
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "there is no such folder"
        raise ReportError(f"{folder}: {what}; name the folder that a command of circuitkit wrote with --out")
    found = _looked_through(folder, name, DEPTH)
    if found is None or not any(part.files for part in found.walk()):
        told = "".join(
            f" {note}" for part in (() if found is None else found.walk()) for note in (*part.unread, *part.notes)
        )
        raise ReportError(
            f"{folder}: there is nothing to show in it: no result, table or figure that circuitkit wrote; "
            f"run a study with --out, and name that folder.{told}"
        )
    return found


def _looked_through(folder: Path, name: str, depth: int) -> Contents | None:
    """What a folder holds, None where it is nothing."""
    try:
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise ReportError(
            f"{folder} cannot be read ({error.strerror}): give yourself the right to, or copy it"
        ) from error
    if _is_model(entries):
        # Weights are no result, but what merging and destroying tells of them is one.
        entries = [path for path in entries if path.name == "manifest.json"]
    files, unread, notes = files_in(entries, folder)
    names = {path.name for path in entries}
    notes += [
        f"{what} in {name}/ has not ended: run its command again, and it goes on."
        for begun, (end, what) in _UNENDED.items()
        if begun in names and end not in names
    ]
    own: set[str] = set()
    for file in [file for file in files if file.kind in _OWN_FOLDERS]:
        own |= _OWN_FOLDERS[file.kind]
        cells, note = _cells(file)
        for cell in cells:
            try:
                _ = cell.value
                files.append(cell)
            except ReportError as error:
                unread.append(str(error))
        notes += [*file.warned, *note]
    parts = []
    links = [note for note in notes if " is a link to " in note]
    for path in entries:
        if path.is_dir() and path.name not in own:
            if path.is_symlink():
                links.append(
                    f"{path.name}/ is a link to another folder, which is not shown: make a report of that one."
                )
                notes.append(links[-1])
            elif depth == 0:
                if _looked_through(path, path.name, -1) is not None:
                    notes.append(f"What lies deeper, in {path.name}/, is not shown: make a report of that folder.")
            elif depth > 0 and (part := _looked_through(path, f"{name}/{path.name}", depth - 1)) is not None:
                parts.append(part)
    # Links alone make no heading, but at the top they say why there is nothing.
    if not (files or parts or unread) and len(notes) == len(links) and (depth < DEPTH or not notes):
        return None
    return Contents(folder, name, tuple(files), tuple(parts), notes=tuple(notes), unread=unread)


def _is_model(entries: list[Path]) -> bool:
    """Whether a folder is a model's: its weights are no result."""
    names = {path.name for path in entries}
    return any(map(_WEIGHTS.match, names)) and bool(names & {"config.json", "adapter_config.json"})


def _cells(file: File) -> tuple[list[File], list[str]]:
    """The results that a sweep's cells returned, each a file, called by what tells its cell from others."""
    found = []
    alike = _alike([record.parameters for record in file.value.records])
    for record in file.value.records:
        told = ", ".join(f"{name}={value}" for name, value in record.parameters.items() if name not in alike)
        for name, stored in record.stored.items():
            path = file.path.parent / "done" / stored.file
            if stored.kind == "result":
                found.append(File(path, "result", f"{told}: {name}" if name != "value" else told))
    left_out = len(found) - _MOST_CELLS
    if left_out <= 0:
        return found, []
    note = f"Of {len(found)} results of cells the first {_MOST_CELLS} are shown; the table has all cells."
    return found[:_MOST_CELLS], [note]


def _alike(cells: Sequence[Mapping[str, Any]]) -> set[str]:
    """The parameters that all cells have in common; where these are all, all but the last, lest a cell have no name."""
    common = (
        [name for name in cells[0] if all(name in each and repr(each[name]) == repr(cells[0][name]) for each in cells)]
        if cells
        else []
    )
    return set(common[:-1] if cells and len(common) == max(map(len, cells)) else common)
