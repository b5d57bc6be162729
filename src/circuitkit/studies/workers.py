"""Cells in processes of this machine, one torch thread each."""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from circuitkit.model import Model
from circuitkit.studies.backends import Ended
from circuitkit.studies.cells import Cell, NamedCell
from circuitkit.studies.errors import SweepError, SweepStoppedError
from circuitkit.studies.identity import named as name_of
from circuitkit.studies.outcomes import Outcome, run_cell

_READY = "ready"


@dataclass(eq=False)
class _Worker:
    process: BaseProcess
    connection: Connection
    ready: bool = False
    cell: NamedCell | None = None
    began: float = 0.0


class Processes:
    """Cells run in some processes of this machine, which end with this one.

    Args:
        workers: how many.

    Raises:
        SweepError: less than one.
    """

    def __init__(self, workers: int) -> None:
        if workers < 1:
            raise SweepError(f"workers={workers}: at least one process has to run the cells")
        self._count = workers
        self._workers: list[_Worker] = []
        self._context = multiprocessing.get_context("spawn")
        # Daemons could have no processes of their own, as data loaders do; and Python waits for all others at its end.
        atexit.register(_end, weakref.ref(self))

    def check(self, cells: Sequence[Cell]) -> None:
        """Every cell can be sent to a process.

        Raises:
            SweepError: a function is no module's, or a parameter cannot be pickled.
        """
        seen: dict[int, Any] = {}
        for cell in cells:
            for name, value in (("", cell.function), *cell.parameters.items()):
                if id(value) not in seen:
                    seen[id(value)] = value
                    check_sendable(name, value)

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self._workers:
            worker.connection.close()
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
        self._workers = []

    def run(self, claimed: Iterator[NamedCell]) -> Iterator[Ended]:
        """Run cells and yield them as they end.

        Raises:
            SweepStoppedError: a process ended before it could run anything.
        """
        more = True
        while True:
            for worker in self._workers:
                if more and worker.ready and worker.cell is None:
                    more = self._start(worker, claimed)
            if more and len(self._workers) < self._count:
                self._workers += [self._new() for _ in range(self._count - len(self._workers))]
            waited = [worker for worker in self._workers if worker.cell is not None or (more and not worker.ready)]
            if not waited:
                return
            for connection in wait([worker.connection for worker in waited]):
                ended = self._heard(next(worker for worker in waited if worker.connection is connection))
                if ended is not None:
                    yield ended

    def _start(self, worker: _Worker, claimed: Iterator[NamedCell]) -> bool:
        cell = next(claimed, None)
        if cell is None:
            return False
        worker.cell, worker.began = cell, time.perf_counter()
        # A process that has just died is found out when it is heard.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            worker.connection.send((cell.cell.function, dict(cell.cell.parameters), cell.seed))
        return True

    def _heard(self, worker: _Worker) -> Ended | None:
        try:
            told = worker.connection.recv()
        except (EOFError, ConnectionResetError):
            return self._died(worker)
        if told == _READY:
            worker.ready = True
            return None
        cell, worker.cell = worker.cell, None
        assert cell is not None  # an outcome is the answer to a cell
        return cell, told

    def _died(self, worker: _Worker) -> Ended | None:
        worker.process.join()
        worker.connection.close()
        self._workers.remove(worker)
        code = worker.process.exitcode or 0
        how = signal.Signals(-code).name if code < 0 else f"status {code}"
        if worker.cell is None:
            raise SweepStoppedError(
                f"a process ended with {how} before it ran any cell: a script that sweeps in processes does so under "
                '`if __name__ == "__main__":`, and its cells\' functions are importable'
            )
        memory = "; the machine may have run out of memory" if how == "SIGKILL" else ""
        told = f"the process that ran it ended with {how}{memory}"
        return worker.cell, Outcome.failed(told, time.perf_counter() - worker.began)

    def _new(self) -> _Worker:
        here, there = self._context.Pipe()
        process = self._context.Process(target=_work, args=(there,), name="circuitkit sweep")
        process.start()
        there.close()
        return _Worker(process, here)


def _end(of: weakref.ref[Processes]) -> None:
    processes = of()
    if processes is not None:
        processes.__exit__()


def check_sendable(name: str, value: Any) -> None:
    """A function, or the parameter of that name, can be pickled for another process.

    Raises:
        SweepError: it cannot.

    >>> check_sendable("seed", 0)
    """
    if isinstance(value, Model):
        raise SweepError(
            f"parameter {name!r} is a loaded model, which stays in its process: give Pretrained(name), which is loaded "
            "where the cell runs, or use workers=1"
        )
    main = sys.modules["__main__"]
    try:
        data = pickle.dumps(value)
    except Exception as error:  # whatever an object's own pickling raises
        if name:
            raise SweepError(
                f"parameter {name!r} cannot be sent to another process ({error}): give plain values, models as "
                "Pretrained(name), or use workers=1"
            ) from error
        raise SweepError(
            f"{name_of(value) if hasattr(value, '__qualname__') else value} cannot be sent to another process: define "
            "the function at the top of a module, or use workers=1"
        ) from error
    if not name and b"__main__" in data[:64] and getattr(main, "__file__", None) is None:
        raise SweepError(
            f"{name_of(value)} is defined in a session that other processes cannot import: put the function into a "
            "module, or use workers=1"
        )


def _work(connection: Connection) -> None:
    import torch

    torch.set_num_threads(1)
    # The driver alone answers an interrupt, and ends its processes.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_driver, daemon=True).start()
    # A driver that is gone wants no answer any more.
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        connection.send(_READY)
        while True:
            connection.send(_answer(connection))


def _answer(connection: Connection) -> Outcome:
    try:
        function, parameters, seed = connection.recv()
    except (EOFError, ConnectionResetError):
        raise
    except Exception as error:  # a function or parameter that cannot be imported here
        return Outcome.failed(f"it could not be sent to a process: {type(error).__name__}: {error}")
    try:
        return run_cell(function, parameters, seed)
    except KeyboardInterrupt:
        # The driver alone answers the keyboard.
        return Outcome.failed("KeyboardInterrupt: the cell raised it")


def _end_with_driver() -> None:
    driver = multiprocessing.parent_process()
    assert driver is not None  # this runs in a child only
    wait([driver.sentinel])
    os._exit(1)
