"""The Ray cluster: what a cell asks of it, finding it within a set time or starting it, and leaving it."""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from circuitkit.studies.errors import SweepError

_GIB = 2**30

_OBJECT_STORE = 256 * 2**20
"""Bytes of shared memory in a cluster of one's own: outcomes pass through it one by one, larger ones by the disk."""

_QUIET = {"logging_level": "CRITICAL", "log_to_driver": False}

_PROBE = f"import ray, sys; ray.init(address=sys.argv[1], **{_QUIET!r}); ray.shutdown()"


@dataclass(frozen=True)
class Needs:
    """What a cell asks of a cluster.

    Attributes:
        cpus: cores; also its torch threads.
        gpus: GPUs, or a part of one.
        memory: in GiB.

    Raises:
        SweepError: a number is negative, or one that Ray cannot divide.

    >>> str(Needs(cpus=2, gpus=0.5))
    'cpus=2, gpus=0.5'
    """

    cpus: float = 1
    gpus: float = 0
    memory: float = 0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value < math.inf:
                raise SweepError(f"{name}={value} cannot be asked for: give a number from 0 on")
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise SweepError(f"gpus={self.gpus}: give a part of one GPU, or a whole number of them")

    def __str__(self) -> str:
        memory = f", memory={self.memory:g} GiB" if self.memory else ""
        return f"cpus={self.cpus:g}, gpus={self.gpus:g}{memory}"

    def fit(self, resources: Mapping[str, float]) -> int:
        """How often a machine of these resources, by Ray's names, has room for a cell.

        >>> Needs(cpus=2).fit({"CPU": 5.0})
        2
        """
        asked = {"CPU": self.cpus, "GPU": self.gpus, "memory": self.memory * _GIB}
        places = [resources.get(name, 0) / much for name, much in asked.items() if much]
        return int(min(places)) if places else os.cpu_count() or 1


def ray_module() -> Any:
    """Ray, imported when it is needed first, since it is an extra.

    Raises:
        SweepError: it is not installed.
    """
    # A user's own cluster is no business of anybody's statistics; said before Ray looks.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise SweepError(f"sweeps on Ray need the extra: pip install 'circuitkit[cluster]' ({error})") from error


class Cluster:
    """A connection to a Ray cluster, made late and undone.

    Args:
        address: see `OnRay`.
        runtime_env: what workers get.
        timeout: seconds.

    Raises:
        SweepError: Ray is not installed.
    """

    def __init__(self, address: str | None, runtime_env: Mapping[str, Any] | None, timeout: float) -> None:
        self._ray = ray_module()
        self._address, self._env, self._timeout = address, dict(runtime_env or {}), timeout
        self.connected = False
        self._made = False

    def connect(self, cpus: float, workers: int | None) -> None:
        """Connect to the cluster, or start one that is just large enough.

        Args:
            cpus: cores for each cell, in a cluster of one's own.
            workers: how many run at once there; by default as many as there are cores for.

        Raises:
            SweepError: the address does not answer, or this process is connected elsewhere.
        """
        if self._ray.is_initialized():
            if self._address is not None:
                raise SweepError(
                    f"this process is connected to a Ray cluster already: leave address={self._address!r} out to use "
                    "it, or call ray.shutdown() first"
                )
            self.connected = True
            return
        address = self._address or os.environ.get("RAY_ADDRESS") or "local"
        with _as_it_was():
            if address == "local":
                cores = os.cpu_count() or 1
                asked = cores if workers is None else math.ceil(workers * cpus)
                self._ray.init(
                    address="local",
                    num_cpus=max(asked, 1),
                    include_dashboard=False,
                    object_store_memory=_OBJECT_STORE,
                    **_QUIET,
                )
            else:
                _check_answers(address, self._timeout)
                self._ray.init(address=address, **_QUIET)
        self.connected = self._made = True
        self._print_worker_messages(False)

    def room(self, needs: Needs) -> int:
        """How many cells of these needs the whole cluster has room for, were nothing else running on it."""
        return sum(needs.fit(machine["Resources"]) for machine in self._machines())

    def told(self) -> str:
        """Its machines, in words."""
        each = [machine["Resources"] for machine in self._machines()]
        return "; ".join(
            f"{r.get('CPU', 0):g} CPUs, {r.get('GPU', 0):g} GPUs, {r.get('memory', 0) / _GIB:.0f} GiB" for r in each
        )

    def _machines(self) -> list[dict[str, Any]]:
        return [machine for machine in self._ray.nodes() if machine["Alive"]]

    def actor(self, kind: type, needs: Needs) -> Any:
        """A class whose objects live on the cluster, in a process each."""
        options: dict[str, Any] = {"num_cpus": needs.cpus, "num_gpus": needs.gpus, "max_restarts": 0}
        if needs.memory:
            options["memory"] = int(needs.memory * _GIB)
        if self._env:
            options["runtime_env"] = self._env
        return self._ray.remote(**options)(kind)

    def wait(self, awaited: list[Any], seconds: float) -> list[Any]:
        """One that is there, or none after so many seconds."""
        ready: list[Any] = self._ray.wait(awaited, num_returns=1, timeout=seconds)[0]
        return ready

    def _print_worker_messages(self, wanted: bool) -> None:
        """Let Ray print a paragraph for each worker that dies, or not: the sweep tells of it itself.

        They come whatever `log_to_driver` says, on standard output, and only this flag of Ray's own stops them.
        """
        printing: Any = importlib.import_module("ray._private.worker")
        if hasattr(printing, "_worker_logs_enabled"):
            printing._worker_logs_enabled = wanted

    def kill(self, actor: Any) -> None:
        """End a worker, whatever it does."""
        # One that is dead already, or whose cluster is gone, has ended.
        with contextlib.suppress(Exception):
            self._ray.kill(actor)

    def leave(self, actors: Sequence[Any]) -> None:
        """End these workers, and the connection and cluster as far as they were made here."""
        for actor in actors:
            self.kill(actor)
        if self._made:
            self._ray.shutdown()
            self._print_worker_messages(True)
        self.connected = self._made = False


@contextlib.contextmanager
def _as_it_was() -> Iterator[None]:
    """Keep who answers SIGTERM: Ray would make it an exit of its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        # None is a handler that Python did not set, and cannot set again.
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def _check_answers(address: str, timeout: float) -> None:
    """A Ray cluster answers at an address; Ray itself waits for minutes, and writes to the terminal meanwhile.

    Raises:
        SweepError: it does not answer in time, or refuses.
    """
    advice = (
        "is the cluster up (`ray status` there), and the address right? 'auto' is the cluster that this machine is "
        "part of, 'host:6379' needs this machine to be part of it too, 'ray://host:10001' does not"
    )
    if address != "auto":
        host, _, port = address.removeprefix("ray://").rpartition(":")
        if not host or not port.isdigit():
            raise SweepError(f"Ray address {address!r}: write 'auto', 'host:6379' or 'ray://host:10001'")
        try:
            socket.create_connection((host, int(port)), timeout=timeout).close()
        except OSError as error:
            raise SweepError(f"no Ray cluster answers at {address!r} ({error}): {advice}") from error
    try:
        # In a process of its own, since a connection that is stuck in Ray cannot be given up.
        told = subprocess.run(
            [sys.executable, "-c", _PROBE, address], timeout=timeout, capture_output=True, text=True, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise SweepError(f"no Ray cluster answers at {address!r} within {timeout:g} s: {advice}") from error
    if told.returncode:
        lines = told.stderr.strip().splitlines() or [f"status {told.returncode}"]
        if "AuthenticationError" in told.stderr:
            advice = "give its token as Ray has it: RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"
        raise SweepError(f"the Ray cluster at {address!r} cannot be used ({lines[-1]}): {advice}")
