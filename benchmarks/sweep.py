"""What a sweep costs beside the cells themselves, and how long finished ones take to list and load.

`overhead` runs cells that do nothing, one after another in this process, and again when all are done: what a cell costs
is the naming, the claim, the file and the table. `ray` does the same on a Ray cluster of this machine, which is started
before anything is timed. `workers` runs cells of
processor work in one local process and in two; `ray workers` on Ray. `load` reads a folder of finished cells as
`Sweep.load` does, and runs their sweep again. Prints a table, and one JSON object as its last line.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import circuitkit as ck
from circuitkit.studies import Record, Sweep, grid
from circuitkit.studies.cells import name_cells
from circuitkit.studies.folder import Folder


def nothing(x: int, text: str = "") -> dict[str, float | str]:
    return {"value": float(x), "name": f"cell {x}"}


def work(x: int, seconds: float) -> float:
    """Some seconds of one core's time, whatever else the machine does."""
    until = time.process_time() + seconds
    total = 0.0
    while time.process_time() < until:
        total += sum(i * i for i in range(1000))
    return total


def timed(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


@contextmanager
def cluster() -> Iterator[None]:
    """A Ray cluster that sweeps connect to, so that its own start is in no cell's time."""
    import ray

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(
        "local",
        num_cpus=max(2, os.cpu_count() or 1),
        include_dashboard=False,
        logging_level="ERROR",
        log_to_driver=False,
    )
    try:
        yield
    finally:
        ray.shutdown()


def overhead(folder: Path, n: int, on: str) -> dict[str, float]:
    """Milliseconds a cell, the first time and again."""
    cells, out = grid(nothing, x=range(n)), folder / on
    first, again = (timed(lambda: ck.sweep(cells, out, on=on, progress=False)) for _ in range(2))
    return {"cells": n, "first_ms": first / n * 1e3, "again_ms": again / n * 1e3}


def workers(folder: Path, n: int, seconds: float, on: str) -> dict[str, float]:
    """Seconds with one worker and with two, their start included, and the ratio."""
    taken = []
    for count in (1, 2):
        cells, out = grid(work, x=range(n), seconds=seconds), folder / f"{on} {count} workers"
        taken.append(timed(partial(ck.sweep, cells, out, on=on, workers=count, progress=False)))
    return {"cells": n, "seconds_a_cell": seconds, "one": taken[0], "two": taken[1], "ratio": taken[1] / taken[0]}


def load(folder: Path, n: int) -> dict[str, float]:
    """Seconds to list and load finished cells, and to make the table."""
    out = folder / "many"
    made = Folder.made(out, "benchmark")
    named = name_cells(grid(nothing, x=range(n), text="a parameter as long as they mostly are"))
    for each in named:
        record = Record.of(each, columns=nothing(**each.shown), seconds=0.1, host="here", time=time.time())
        (out / "done" / f"{each.key}.json").write_bytes(record.to_bytes())
    made.ask_for([each.key for each in named], "benchmark")
    listing = timed(lambda: made.ended("done"))
    began = time.perf_counter()
    frame = Sweep.load(out).frame
    loading = time.perf_counter() - began
    assert len(frame) == n and frame["value"].sum() == n * (n - 1) / 2
    resuming = timed(lambda: ck.sweep([each.cell for each in named], out, progress=False))
    return {"cells": n, "list_s": listing, "load_s": loading, "resume_s": resuming}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few cells, to see that it runs")
    parser.add_argument("--folder", type=Path, help="where sweeps are kept, for other disks (default: temporary files)")
    options = parser.parse_args()
    few = options.quick
    ways = ["local"] + (["ray"] if find_spec("ray") and find_spec("circuitkit.studies.ray") else [])
    told: dict[str, Any] = {"benchmark": "sweep", "quick": few, "cores": os.cpu_count(), "machine": platform.machine()}
    with tempfile.TemporaryDirectory(dir=options.folder) as name, cluster() if "ray" in ways else nullcontext():
        folder = Path(name)
        for on in ways:
            found = told[f"{on} overhead"] = overhead(folder, 100 if few else 1000, on)
            print(
                f"{on:<8} overhead {found['first_ms']:8.2f} ms a cell, {found['again_ms']:.2f} when all are done",
                flush=True,
            )
        for on in ways:
            found = told[f"{on} workers"] = workers(folder, 2 if few else 40, 0.1 if few else 1.0, on)
            seconds = f"{found['one']:.1f} s with one, {found['two']:.1f} with two"
            print(f"{on:<8} workers  {found['ratio']:8.2f} of one worker's time with two ({seconds})", flush=True)
        found = told["load"] = load(folder, 2000 if few else 100_000)
        seconds = f"{found['list_s']:.2f} to list them, {found['resume_s']:.2f} to run the sweep again"
        print(f"{'':<8} load     {found['load_s']:8.2f} s for {found['cells']} cells, {seconds}")
    print(json.dumps(told))


if __name__ == "__main__":
    main()
