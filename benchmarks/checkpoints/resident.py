"""Memory of a job in a process of its own, watched while it runs."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Watched:
    """What a job took of its process.

    Attributes:
        seconds, cpu_seconds: the wall's and the processor's.
        anonymous_before: MiB of memory that no file backs before the job, its imports done.
        anonymous_peak: the most of it while the job ran, seen every two milliseconds.
        mapped_peak: the most MiB of mapped files that were in memory.
        peak: the process's own peak of both (VmHWM).
    """

    seconds: float
    cpu_seconds: float
    anonymous_before: float
    anonymous_peak: float
    mapped_peak: float
    peak: float

    @property
    def added(self) -> float:
        """MiB of memory that no file backs, which the job added at its peak."""
        return self.anonymous_peak - self.anonymous_before


def watched(job: Callable[[], Any]) -> Watched:
    """Run a job and watch this process meanwhile."""
    before, most = _mib("RssAnon"), {"RssAnon": 0.0, "RssFile": 0.0}
    ended = threading.Event()

    def look() -> None:
        while True:
            for field in most:
                most[field] = max(most[field], _mib(field))
            if ended.wait(0.002):
                return

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    began, cpu = time.perf_counter(), time.process_time()
    kept = job()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    ended.set()
    watcher.join()
    del kept
    return Watched(seconds, cpu, before, most["RssAnon"], most["RssFile"], _mib("VmHWM"))


def in_a_child(script: str, words: list[str]) -> Watched:
    """What a script's own process says when it is called to run a job and to tell `told(watched(job))`."""
    ended = subprocess.run([sys.executable, script, *words], check=False, capture_output=True, text=True)
    if ended.returncode != 0:
        raise SystemExit(f"{' '.join(words)}: {ended.stderr.strip().splitlines()[-1] if ended.stderr else 'killed'}")
    return Watched(**json.loads(ended.stdout.strip().splitlines()[-1]))


def told(seen: Watched) -> str:
    """What was seen, as a line that `in_a_child` reads."""
    return json.dumps(asdict(seen))


def _mib(field: str) -> float:
    return int(next(line for line in _STATUS.read_text().splitlines() if line.startswith(field)).split()[1]) / 1024
