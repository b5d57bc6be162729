"""Cells on a Ray cluster, one that runs already or one of this machine's own that starts and ends with the sweep."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tqdm.auto import tqdm

from circuitkit.studies.backends import Ended
from circuitkit.studies.cells import Cell, NamedCell
from circuitkit.studies.cluster import Cluster, Needs, ray_module
from circuitkit.studies.errors import SweepError, SweepStoppedError
from circuitkit.studies.identity import named as name_of
from circuitkit.studies.outcomes import Outcome, run_cell
from circuitkit.studies.pretrained import Pretrained

__all__ = ["Needs", "OnRay"]

_FAILED_STARTS = 3
"""So many workers in a row that could not start stop a sweep: one may have had bad luck with its node."""

_TELL_AFTER = 30.0
"""Seconds without room for a single worker after which the user is told what is waited for."""


@dataclass(eq=False)
class _Worker:
    actor: Any
    needs: Needs
    # What is waited for: at first that it has started, then the outcome of its cell.
    awaited: Any
    place: str = ""
    cell: NamedCell | None = None
    began: float = 0.0
    # None before its first cell: any model is as good as another.
    models: tuple[Pretrained, ...] | None = None

    @property
    def idle(self) -> bool:
        return self.place != "" and self.cell is None


class OnRay:
    """Cells run in workers on a Ray cluster, each with a model kept loaded; this process alone writes results.

    A worker that dies costs the cell that it ran: another takes its place, and the cell runs once more. If that one
    dies too, the cell has failed. Functions of modules are imported by the workers, which need circuitkit and these
    modules; functions of a script or notebook travel with the cell. What cells print stays in Ray's logs.

    Args:
        address: "auto" for the cluster that this machine is part of, "host:6379" for one by its head's address,
            "ray://host:10001" from a machine that is not part of it, "local" for one of this machine's own, started
            now. By default the one that this process is connected to, else the one in RAY_ADDRESS, else "local".
        workers: how many cells run at once; by default as many as there is room for.
        cpus: cores for each cell, which has as many torch threads, one at least.
        gpus: GPUs for each cell; a part of one, such as 0.5, shares it.
        memory: GiB for each cell. As cpus and gpus it decides where a cell starts, and does not limit it.
        needs: cpus, gpus and memory by a cell's parameters, where cells differ; instead of the three above.
        runtime_env: what the workers get beside what is installed on their machines, such as
            `{"working_dir": "."}` or `{"py_modules": [package]}`; see Ray's documentation of runtime environments.
        timeout: seconds after which an address has not answered.

    Raises:
        SweepError: Ray is not installed, or a number is none that could be asked for.

    >>> OnRay(workers=0)
    Traceback (most recent call last):
    ...
    circuitkit.studies.errors.SweepError: workers=0: at least one worker has to run the cells
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        workers: int | None = None,
        cpus: float = 1,
        gpus: float = 0,
        memory: float = 0,
        needs: Callable[[Mapping[str, Any]], Needs] | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        timeout: float = 30.0,
    ) -> None:
        if workers is not None and workers < 1:
            raise SweepError(f"workers={workers}: at least one worker has to run the cells")
        if timeout <= 0:
            raise SweepError(f"timeout={timeout}: an address needs some seconds to answer")
        self._same, self._needs = Needs(cpus, gpus, memory), needs
        self._asked = workers
        self._cluster = Cluster(address, runtime_env, timeout)
        self._workers: list[_Worker] = []
        self._pending: list[NamedCell] = []
        self._lost: set[str] = set()
        self._per_cell: list[Needs] = []
        self._count = 0
        self._room: dict[Needs, int] = {}
        self._failed_starts = 0
        self._waits_since: float | None = None

    def check(self, cells: Sequence[Cell]) -> None:
        """Every cell can be sent to a worker, and what it needs makes sense.

        Raises:
            SweepError: Ray is not installed, or a function or parameter cannot be serialised.
        """
        dumps = ray_module().cloudpickle.dumps
        seen: dict[int, Any] = {}
        for cell in cells:
            for name, value in (("", cell.function), *cell.parameters.items()):
                if id(value) not in seen:
                    seen[id(value)] = value
                    _check_sendable(dumps, name, value)
        self._per_cell = [self._needs_of(cell) for cell in cells]

    def _needs_of(self, cell: Cell) -> Needs:
        told = self._same if self._needs is None else self._needs(cell.parameters)
        if not isinstance(told, Needs):
            raise SweepError(f"needs= gave {told!r} for a cell: it gives Needs(cpus, gpus, memory)")
        return told

    def __enter__(self) -> OnRay:
        self._lost, self._failed_starts = set(), 0
        return self

    def __exit__(self, *error: object) -> None:
        workers, self._workers, self._pending = self._workers, [], []
        self._cluster.leave([worker.actor for worker in workers])

    def run(self, claimed: Iterator[NamedCell]) -> Iterator[Ended]:
        """Run cells and yield them as they end.

        Raises:
            SweepError: the address does not answer, or no machine of the cluster has what a cell needs.
            SweepStoppedError: workers cannot start, or the cluster is gone.
        """
        self._connect()
        try:
            yield from self._run_all(claimed)
        except ConnectionError as error:
            raise SweepStoppedError(
                f"the Ray cluster does not answer any more ({error}); what ended is kept"
            ) from error

    def _run_all(self, claimed: Iterator[NamedCell]) -> Iterator[Ended]:
        more = True
        while True:
            more = self._assign(claimed, more)
            self._replenish(more)
            waited = {
                each.awaited: each
                for each in self._workers
                if each.cell is not None or (not each.place and (more or self._pending))
            }
            if not waited:
                return
            for awaited in self._cluster.wait(list(waited), 5.0):
                ended = self._heard(waited[awaited])
                if ended is not None:
                    yield ended
            self._tell_of_waiting()

    def _connect(self) -> None:
        if self._cluster.connected:
            return
        needs = set(self._per_cell)
        self._cluster.connect(max(each.cpus for each in needs), self._asked)
        room = {each: self._cluster.room(each) for each in needs}
        for each, places in room.items():
            if not places:
                raise SweepError(f"no machine of the Ray cluster has {each} for a cell: {self._cluster.told()}")
        # A sweep has no more use for workers than cells.
        self._count = min(self._asked or max(room.values()), len(self._per_cell))
        # A cluster that grows on demand may come to have room for as many as were asked for.
        self._room = {each: self._asked or places for each, places in room.items()}
        for each in self._per_cell[: self._count]:
            self._start(each)

    def _assign(self, claimed: Iterator[NamedCell], more: bool) -> bool:
        """Give idle workers cells, of the model that they have as far as can be; False when no more can be claimed.

        What this process claims, no other runs: a cell is claimed for a worker that is idle, and a few more only to
        find one of its model.
        """
        ahead = 2 * sum(worker.place != "" for worker in self._workers)
        for worker in [each for each in self._workers if each.idle]:
            cell, suits = self._best(worker)
            while more and not suits and len(self._pending) < ahead:
                taken = next(claimed, None)
                more = taken is not None
                if taken is not None:
                    self._pending.append(taken)
                    cell, suits = self._best(worker)
            if cell is not None:
                self._pending.remove(cell)
                self._send(worker, cell)
        return more

    def _best(self, worker: _Worker) -> tuple[NamedCell | None, bool]:
        fitting = [cell for cell in self._pending if self._needs_of(cell.cell) == worker.needs]
        for cell in fitting:
            if worker.models is None or _models(cell) == worker.models:
                return cell, True
        return (fitting[0] if fitting else None), False

    def _send(self, worker: _Worker, cell: NamedCell) -> None:
        payload = ray_module().cloudpickle.dumps((cell.cell.function, dict(cell.cell.parameters)))
        worker.cell, worker.began, worker.models = cell, time.perf_counter(), _models(cell)
        worker.awaited = worker.actor.run.remote(payload, cell.seed)

    def _replenish(self, more: bool) -> None:
        """Start workers in place of those that died, or that have not what the next cells need."""
        wanted = [self._needs_of(cell.cell) for cell in self._pending]
        for needs in wanted:
            if any(each.needs == needs for each in self._workers):
                continue
            spare = [each for each in self._workers if each.idle and each.needs not in wanted]
            if len(self._workers) >= self._count and spare:
                self._workers.remove(spare[0])
                self._cluster.kill(spare[0].actor)
            self._start(needs)
        starting = sum(not each.place for each in self._workers)
        for needs in wanted[starting:]:
            self._start(needs)
        for needs in self._room if more else ():
            while self._start(needs):
                pass

    def _start(self, needs: Needs) -> bool:
        """Start a worker, where there may be one more."""
        same = sum(each.needs == needs for each in self._workers)
        if len(self._workers) >= self._count or same >= self._room[needs]:
            return False
        actor = self._cluster.actor(_Runner, needs).remote(max(1, int(needs.cpus)), sys.path)
        self._workers.append(_Worker(actor, needs, actor.place.remote()))
        return True

    def _heard(self, worker: _Worker) -> Ended | None:
        ray = ray_module()
        try:
            told = ray.get(worker.awaited)
        except ray.exceptions.RayTaskError as error:
            # An outcome that could not be sent back, such as where the disk of its machine is full.
            told = Outcome.failed(str(error.cause or error), time.perf_counter() - worker.began)
        except ray.exceptions.RayError as error:
            return self._died(worker, error)
        if worker.cell is None:
            worker.place, self._failed_starts, self._waits_since = told, 0, None
            return None
        cell, worker.cell = worker.cell, None
        return cell, told

    def _died(self, worker: _Worker, error: Exception) -> Ended | None:
        self._workers.remove(worker)
        self._cluster.kill(worker.actor)
        if worker.cell is None:
            self._failed_starts += 1
            if self._failed_starts >= _FAILED_STARTS:
                self._fail_to_start(error)
            return None
        if worker.cell.key not in self._lost:
            self._lost.add(worker.cell.key)
            self._pending.insert(0, worker.cell)
            return None
        told = (
            f"the worker that ran it died, twice, the last time in {worker.place} ({_why(error)}): a cell that ends "
            "its process or crashes it does this, as does a machine without memory, where memory= asks for more"
        )
        return worker.cell, Outcome.failed(told, time.perf_counter() - worker.began)

    def _fail_to_start(self, error: Exception) -> None:
        raise SweepStoppedError(
            f"workers cannot start on the Ray cluster, {self._failed_starts} in a row: {error}\n"
            "Machines of the cluster need circuitkit in the Python that Ray runs there, or a runtime_env that brings it"
        ) from error

    def _tell_of_waiting(self) -> None:
        if any(each.place for each in self._workers):
            self._waits_since = None
            return
        now = time.monotonic()
        self._waits_since = self._waits_since or now
        if now - self._waits_since > _TELL_AFTER:
            self._waits_since = float("inf")
            needs = self._workers[0].needs
            tqdm.write(f"Waiting for room for {needs} on the Ray cluster: {self._cluster.told()}", file=sys.stderr)


class _Runner:
    """What a worker is: it runs one cell after another, and keeps the model of the last."""

    def __init__(self, threads: int, paths: Sequence[str]) -> None:
        torch.set_num_threads(threads)
        # On a file system that the machines share, what the driver imports can be imported here too.
        sys.path += [path for path in paths if path not in sys.path and os.path.isdir(path)]  # noqa: PTH112

    def place(self) -> str:
        return f"process {os.getpid()} on {socket.gethostname()}"

    def run(self, payload: bytes, seed: int) -> Outcome:
        try:
            function, parameters = ray_module().cloudpickle.loads(payload)
        except Exception as error:  # a function or parameter that cannot be imported here
            return Outcome.failed(
                f"it could not be sent to a worker: {type(error).__name__}: {error}; what a cell imports has to be on "
                "the cluster's machines, or in the runtime_env"
            )
        try:
            return run_cell(function, parameters, seed)
        except KeyboardInterrupt:
            # Nobody is at a keyboard here, and Ray would call the cell cancelled.
            return Outcome.failed("KeyboardInterrupt: the cell raised it")


def _why(error: Exception) -> str:
    """What Ray knows of a worker's end, in one line."""
    told = " ".join(str(error).split())
    return f"{type(error).__name__}: {told[:300]}" if told else type(error).__name__


def _models(cell: NamedCell) -> tuple[Pretrained, ...]:
    return tuple(value for value in cell.cell.parameters.values() if isinstance(value, Pretrained))


def _check_sendable(dumps: Callable[[Any], bytes], name: str, value: Any) -> None:
    try:
        dumps(value)
    except Exception as error:  # whatever an object's own pickling raises
        told = f"parameter {name!r}" if name else name_of(value) if hasattr(value, "__qualname__") else str(value)
        raise SweepError(
            f"{told} cannot be sent to a worker ({error}): give plain values and models as Pretrained(name), and "
            "functions that hold no open files, locks or connections"
        ) from error
