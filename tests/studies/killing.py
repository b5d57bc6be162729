"""Runs a sweep, kills its processes at random moments, runs it again, and tells what was lost or done twice.

Every cell that runs leaves a line in a log outside the sweep's folder. Processes are forks of this one, which has
imported everything, so that a restart takes no time. Prints one JSON object.
"""

import argparse
import json
import os
import random
import signal
import time
from pathlib import Path

import circuitkit as ck
from circuitkit.studies import Sweep, grid


def cell(x: int, log: str) -> dict[str, float | str]:
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{x}\n".encode())
    os.close(descriptor)
    time.sleep(0.001)
    return {"square": x * x, "name": f"cell {x}"}


class Killed:
    def __init__(self, folder: Path, cells: int, processes: int, workers: int) -> None:
        self.out, self.log = folder / "sweep", folder / "log"
        self.log.touch()
        self.cells = grid(cell, x=range(cells), log=str(self.log))
        self.processes, self.workers = processes, workers
        self.killed, self.twice, self.lost = 0, 0, 0

    def started(self) -> int:
        pid = os.fork()
        if not pid:
            status = 1
            try:
                ck.sweep(self.cells, self.out, workers=self.workers, progress=False)
                status = 0
            finally:
                os._exit(status)
        return pid

    def done(self) -> set[int]:
        """Which cells are done, by their files."""
        paths = (self.out / "done").glob("[!.]*.json") if self.out.exists() else ()
        return {json.loads(path.read_bytes())["parameters"]["x"] for path in paths}

    def round(self, moments: list[int]) -> None:
        """Start all processes, kill each once so many more cells have run, and compare with what was done before."""
        before, lines = self.done(), len(self.ran())
        pids = [self.started() for _ in range(self.processes)]
        statuses = []
        for pid, moment in zip(pids, moments, strict=False):
            ended = (0, 0)
            while not ended[0] and len(self.ran()) < lines + moment:
                time.sleep(0.0005)
                ended = os.waitpid(pid, os.WNOHANG)
            time.sleep(random.uniform(0, 0.002))
            if not ended[0]:
                os.kill(pid, signal.SIGKILL)
                ended = os.waitpid(pid, 0)
            statuses.append(ended[1])
        statuses += [os.waitpid(pid, 0)[1] for pid in pids[len(moments) :]]
        assert all(os.WIFSIGNALED(status) or status == 0 for status in statuses), statuses
        self.killed += sum(os.WIFSIGNALED(status) for status in statuses)
        self.twice += sum(x in before for x in self.ran()[lines:])
        self.lost += len(before - self.done())

    def ran(self) -> list[int]:
        return [int(line) for line in self.log.read_text().split()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--kills", type=int, required=True)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    killed = Killed(options.folder, options.cells, options.processes, options.workers)
    for round in range(options.kills):
        # About as many cells for every kill, so that the last one still finds some running.
        most = 2 * (options.cells - len(killed.done())) // (options.kills - round + 1) // options.processes
        killed.round([random.randint(0, most) for _ in range(options.processes)])
    killed.round([])
    survived = Sweep.load(killed.out).frame
    ran = killed.ran()
    whole = ck.sweep(killed.cells, options.folder / "whole", progress=False).frame
    told = {
        "killed": killed.killed,
        "lost": killed.lost,
        "twice": killed.twice,
        "more": len(ran) - options.cells,
        "equal": bool(survived.equals(whole)),
        "rows": len(survived),
        "claims": [path.name for path in (killed.out / "claims").iterdir()],
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
