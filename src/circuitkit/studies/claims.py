"""Claims: which process runs which cell, on one machine or on several that share a file system.

Every process has one file, its owner file, and a claim on a cell is a hard link to it: made in one step that only one
process can win, and kept fresh for all claims at once by touching the owner file. A claim expires when it was not
touched for a while, or at once when its process is known to be dead on this machine. An expired claim is never removed
by those who want the cell: they make the next one, `KEY.1` after `KEY.0`, which again only one of them can. Whoever has
a claim looks whether the cell has ended meanwhile before running it.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from circuitkit.studies.placing import place, stopped

_BEATS = 6


@dataclass(frozen=True)
class Owner:
    """A process that has claims.

    Attributes:
        token: names this owner among all.
        host: the machine's name.
        place: the machine's boot and the process namespace, within which a process id means something.
        pid, started: the process and when it began, in ticks since boot, as ids are used again.
    """

    token: str
    host: str
    place: str
    pid: int
    started: str

    @classmethod
    def here(cls) -> Owner:
        """This process."""
        return cls(uuid4().hex[:12], socket.gethostname(), _place(), os.getpid(), _started(os.getpid()))

    def is_dead(self) -> bool:
        """Whether the process is known to have ended; one on another machine is not."""
        return bool(self.place) and self.place == _place() and _started(self.pid) != self.started


class Claims:
    """This process's claims in a folder; used as a context, in which they are kept fresh.

    Args:
        folder: where the claims of all processes are.
        expires: after how many seconds without a sign of life a claim is free again.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as path, Claims(Path(path)) as mine, Claims(Path(path)) as other:
    ...     mine.take("a"), other.take("a"), other.take("b")
    (True, False, True)
    """

    def __init__(self, folder: Path, expires: float = 120.0) -> None:
        self.folder, self.expires = folder, expires
        self.owner = Owner.here()
        self._path = folder / f"owner.{self.owner.token}"
        self._held: dict[str, int] = {}
        self._ended = threading.Event()
        self._descriptor = -1

    def __enter__(self) -> Claims:
        self._appear()
        self._beat = threading.Thread(target=self._keep_fresh, name="claims", daemon=True)
        self._beat.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._beat.join()
        for key in list(self._held):
            self.release(key)
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)

    def _appear(self) -> None:
        place(self._path, json.dumps(asdict(self.owner)).encode(), self.owner.token)
        if self._descriptor >= 0:
            os.close(self._descriptor)
        # Touched through its descriptor, the claims stay fresh even if someone removes the owner file.
        self._descriptor = os.open(self._path, os.O_RDWR)

    def _keep_fresh(self) -> None:
        while not self._ended.wait(self.expires / _BEATS):
            # A network file system may be away for a moment; claims outlast some missed beats.
            with suppress(OSError):
                os.utime(self._descriptor)

    def take(self, key: str) -> bool:
        """Claim a cell; False where a living process has it."""
        latest = self._latest(key) if (self.folder / f"{key}.0").exists() else -1
        if latest >= 0 and not self._is_free(self.folder / f"{key}.{latest}"):
            return False
        claim = self.folder / f"{key}.{latest + 1}"
        try:
            self._link(claim.name)
        except FileExistsError:
            # A network file system that lost its answer asks again, and finds the link that it made.
            if not self._is_mine(claim):
                return False
        self._held[key] = latest + 1
        return True

    def _is_mine(self, claim: Path) -> bool:
        try:
            return claim.stat().st_ino == os.fstat(self._descriptor).st_ino
        except FileNotFoundError:
            return False

    def _link(self, name: str) -> None:
        for attempt in range(2):
            try:
                os.link(self._path, self.folder / name)
                return
            except FileNotFoundError:
                # Stopped for so long that it was taken for dead and tidied away.
                if attempt:
                    raise
                self._appear()
            except FileExistsError:
                raise
            except OSError as error:
                raise stopped(error, self.folder / name) from error

    def release(self, key: str) -> None:
        """Give a claim back, with the expired ones before it."""
        number = self._held.pop(key)
        claim = self.folder / f"{key}.{number}"
        # One that expired while its cell ran may be another process's by now.
        if self._is_mine(claim):
            for name in range(number, -1, -1):
                (self.folder / f"{key}.{name}").unlink(missing_ok=True)

    def _latest(self, key: str) -> int:
        numbers = (path.name.rpartition(".") for path in self.folder.iterdir())
        return max((int(number) for name, _, number in numbers if name == key), default=-1)

    def _is_free(self, claim: Path) -> bool:
        try:
            age = self._now() - claim.stat().st_mtime
            return age > self.expires or _owner(claim).is_dead()
        except FileNotFoundError:
            # Released this moment: the cell has ended, or will be there at the next look.
            return False
        except ValueError:
            # SpoiledError, so that only its age tells.
            return False

    def _now(self) -> float:
        """The time by the file system's own clock, which all machines share."""
        os.utime(self._descriptor)
        return os.fstat(self._descriptor).st_mtime

    def living(self) -> set[str]:
        """The tokens of the processes that are not known to be gone."""
        owners = [path for path in self.folder.iterdir() if path.name.startswith("owner.")]
        return {path.name.partition(".")[2] for path in owners if not self._is_free(path)}

    def tidy(self, ended: set[str]) -> None:
        """Remove the claims of processes that are gone on cells that have ended, and their owner files."""
        entries = [path for path in self.folder.iterdir() if not path.name.startswith(".")]
        for path in entries:
            key = path.name.rpartition(".")[0]
            if key != "owner" and key in ended and self._is_free(path):
                path.unlink(missing_ok=True)
        for path in entries:
            with suppress(FileNotFoundError):
                if path.name.startswith("owner.") and self._is_free(path) and path.stat().st_nlink == 1:
                    path.unlink()


def running(folder: Path, expires: float = 120.0) -> dict[str, Owner]:
    """Who runs which cell now, by the newest claims in a folder that have not expired."""
    newest: dict[str, tuple[int, Path]] = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        key, _, number = path.name.rpartition(".")
        if key and number.isdigit():
            newest[key] = max(newest.get(key, (-1, path)), (int(number), path))
    found: dict[str, Owner] = {}
    for key, (_, path) in newest.items():
        with suppress(FileNotFoundError, ValueError):
            owner = _owner(path)
            if time.time() - path.stat().st_mtime <= expires and not owner.is_dead():
                found[key] = owner
    return found


def _owner(claim: Path) -> Owner:
    told: Any = json.loads(claim.read_bytes())
    try:
        return Owner(**told)
    except TypeError as error:
        raise ValueError(f"{claim} is no claim") from error


def _place() -> str:
    """Where a process id means something; empty where the system does not say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    try:
        told = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # The second field is the program's name in brackets, which may hold anything. A zombie is dead.
    state, *rest = told.rpartition(")")[2].split()
    return "" if state in "ZX" else rest[18]
