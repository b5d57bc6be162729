"""`ck.sweep`: which cells are missing, who runs them, and their results as they come."""

from __future__ import annotations

import importlib
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from tqdm.auto import tqdm

from circuitkit.studies.backends import Backend, InProcess
from circuitkit.studies.cells import NamedCell, name_cells
from circuitkit.studies.claims import Claims
from circuitkit.studies.errors import SweepError
from circuitkit.studies.folder import Folder
from circuitkit.studies.outcomes import Outcome
from circuitkit.studies.records import Record
from circuitkit.studies.table import Sweep
from circuitkit.studies.workers import Processes

_LOOK_AGAIN = (0.05, 2.0)
"""Seconds between two looks at cells that others run: the first wait, and the longest."""


def sweep(
    cells: Iterable[tuple[Callable[..., Any], Mapping[str, Any]]],
    out: str | Path,
    *,
    on: Literal["local", "ray"] | Backend = "local",
    workers: int | None = None,
    retry_failed: bool = False,
    progress: bool = True,
    shard: tuple[int, int] | None = None,
    version: str = "",
    expires: float = 120.0,
) -> Sweep:
    """Run cells that are not done yet, and give all their results as one table.

    Each result is written as its cell ends, so a sweep that is killed goes on where it stopped when it is run again.
    Any number of processes and machines may run the same sweep in the same folder; each cell is run by one of them, and
    every one returns when all cells have ended. A cell that fails is kept with its traceback and stops no other.

    Args:
        cells: functions and their parameters, such as `grid` makes. A function returns a number, a text, a tensor, a
            `Result`, or a mapping of them by name. A parameter `Pretrained(name)` comes to it as the loaded model.
            torch, numpy and random start each cell from a seed of its own.
        out: a folder, made if it is not there.
        on: "local", "ray", or a backend of one's own.
        workers: how many processes run cells, one torch thread each. Locally 1 if not given, which is this very
            process; on Ray as many as the cluster has room for. A backend of one's own knows by itself.
        retry_failed: run the cells again that failed in earlier sweeps.
        progress: show a bar with how many are done, how many failed, and the time left.
        shard: `(i, n)`: of n parts, counted from 1, only run and wait for the i-th: every n-th cell.
        version: what else the code depends on, in your words; another version is another cell.
        expires: seconds without a sign of life after which another machine's claim is free.

    Raises:
        SweepError: a cell, the folder or a setting is wrong; nothing was run.
        SweepStoppedError: the disk is full; what was finished is kept.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as out:
    ...     sweep([(pow, {"base": 2, "exp": 3})], out, progress=False).frame.to_dict("records")
    [{'base': 2, 'exp': 3, 'value': 8}]
    """
    if not expires > 0:
        raise SweepError(f"expires={expires}: claims need some seconds to be kept fresh, such as 120")
    # A cell may change the directory.
    out = Path(out).absolute()
    backend = _backend(on, workers)
    named = name_cells(cells, version)
    part = _part(named, shard)
    backend.check([each.cell for each in part])
    claims = Claims(out / "claims", expires)
    folder = Folder.made(out, claims.owner.token)
    with claims:
        folder.ask_for([each.key for each in named], claims.owner.token)
        folder.sweep_up(claims.living(), expires)
        run = _Run(folder, claims, part, retry_failed)
        with tqdm(total=len(part), initial=len(run.ended), disable=not progress, unit="cell", desc="Sweep") as bar:
            run.to_the_end(backend, bar)
        claims.tidy(set(run.ended))
    ended = run.ended if shard is None else run.ended | _records(folder, named, run.ended)
    return Sweep(folder.path, tuple(ended[each.key] for each in named if each.key in ended), len(named))


def _backend(on: str | Backend, workers: int | None) -> Backend:
    if on == "ray":
        made: Backend = importlib.import_module("circuitkit.studies.ray").OnRay(workers=workers)
        return made
    if not isinstance(on, str):
        if workers is not None:
            raise SweepError(f"workers={workers} is for 'local' and 'ray': tell {type(on).__name__} how many it has")
        return on
    if on != "local":
        raise SweepError(f"on={on!r}: a sweep runs on 'local' or 'ray'")
    return InProcess() if workers is None or workers == 1 else Processes(workers)


def _part(cells: list[NamedCell], shard: tuple[int, int] | None) -> list[NamedCell]:
    if shard is None:
        return cells
    number, of = shard
    if not 1 <= number <= of:
        raise SweepError(f"shard {number}/{of}: shards are counted from 1, so the last of {of} is {of}/{of}")
    return cells[number - 1 :: of]


def _records(folder: Folder, cells: Iterable[NamedCell], known: Mapping[str, Record]) -> dict[str, Record]:
    done, failed = folder.ended("done"), folder.ended("failed")
    found: dict[str, Record] = {}
    for each in cells:
        if each.key in known:
            continue
        record = folder.read("done", each.key) if each.key in done else None
        if record is None and each.key in failed:
            record = folder.read("failed", each.key)
        if record is not None:
            found[each.key] = record
    return found


class _Run:
    """One process's share of a sweep."""

    def __init__(self, folder: Folder, claims: Claims, cells: list[NamedCell], retry_failed: bool) -> None:
        self.folder, self.claims = folder, claims
        self.ended = _records(folder, cells, {})
        self._attempts = {key: record.attempt for key, record in self.ended.items() if record.failure is not None}
        if retry_failed:
            for key in self._attempts:
                del self.ended[key]
        self._missing = {each.key: each for each in cells if each.key not in self.ended}
        self._host = socket.gethostname()

    def to_the_end(self, backend: Backend, bar: Any) -> None:
        """Run what nobody else runs, until every cell has ended."""
        failed = sum(record.failure is not None for record in self.ended.values())
        pause, longest = _LOOK_AGAIN
        with backend:
            while self._missing:
                before = len(self.ended)
                for each, outcome in backend.run(self._claimed(bar)):
                    failed += self._finished(each, outcome).failure is not None
                    bar.set_postfix_str(f"{failed} failed" if failed else "", refresh=False)
                    bar.update()
                if len(self.ended) > before:
                    pause = _LOOK_AGAIN[0]
                elif self._missing:
                    time.sleep(pause)
                    pause = min(2 * pause, longest)

    def _claimed(self, bar: Any) -> Iterator[NamedCell]:
        """Cells that nobody else has, each claimed when it is asked for."""
        for key, each in list(self._missing.items()):
            if self._ended_elsewhere(key, bar) or not self.claims.take(key):
                continue
            # Between the look and the claim another process may have had the claim, and finished.
            if self._ended_elsewhere(key, bar):
                self.claims.release(key)
                continue
            yield each

    def _ended_elsewhere(self, key: str, bar: Any) -> bool:
        record = self.folder.read("done", key) if self.folder.has("done", key) else None
        if record is None and self.folder.has("failed", key):
            record = self.folder.read("failed", key)
            # A failure that is to be tried again, and not one of somebody else's new attempt.
            if record is not None and record.attempt <= self._attempts.get(key, 0):
                record = None
        if record is None:
            return False
        self._note(record)
        bar.update()
        return True

    def _finished(self, each: NamedCell, outcome: Outcome) -> Record:
        record = Record.of(
            each,
            columns=outcome.columns,
            stored=outcome.stored,
            failure=outcome.failure,
            seconds=round(outcome.seconds, 6),
            attempt=self._attempts.get(each.key, 0) + 1,
            host=self._host,
            time=round(time.time(), 3),
        )
        self.folder.write(record, outcome.contents, self.claims.owner.token)
        # As it will be read again: with the names of stored files, and of the process that was first.
        kept = self.folder.read("failed" if record.failure is not None else "done", each.key) or record
        self._note(kept)
        self.claims.release(each.key)
        return kept

    def _note(self, record: Record) -> None:
        self.ended[record.key] = record
        del self._missing[record.key]
