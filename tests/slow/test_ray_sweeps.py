"""Sweeps on Ray whose workers or driver are killed with SIGKILL, and on clusters that run already."""

import json
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

import circuitkit as ck
from circuitkit.studies import Cell, Sweep, SweepStoppedError, grid
from circuitkit.studies.ray import Needs, OnRay

ray: Any = pytest.importorskip("ray", reason="Ray is not installed: pip install 'circuitkit[cluster]'")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SCRIPT = """
import os, sys, time
import circuitkit as ck
from circuitkit.studies import grid
from circuitkit.studies.ray import OnRay

def logged(x, log, seconds=0.002):
    with open(log, "a") as file:
        file.write(f"{x} {os.getpid()}\\n")
    time.sleep(seconds)
    return {"square": x * x, "name": f"cell {x}"}

def dies(x):
    os.kill(os.getpid(), 9)

if __name__ == "__main__":
    folder, cells, workers, address, kind = sys.argv[1:]
    asked = grid(logged, x=range(int(cells)), log=f"{folder}/log")
    asked += grid(dies, x=0) if kind == "dies" else []
    on = OnRay(address or None, workers=int(workers))
    print(len(ck.sweep(asked, f"{folder}/sweep", on=on, progress=False).failures))
"""


def started(
    folder: Path, cells: int, *, workers: int = 2, address: str = "local", kind: str = "", token: str = ""
) -> Any:
    script = folder / "script.py"
    script.write_text(SCRIPT)
    words = [sys.executable, str(script), str(folder), str(cells), str(workers), address, kind]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token} if token else {}
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def lines(folder: Path) -> list[tuple[int, int]]:
    log = folder / "log"
    told = log.read_text().splitlines() if log.exists() else []
    return [(int(each.split()[0]), int(each.split()[1])) for each in told if len(each.split()) == 2]


def wait_for(folder: Path, more: int, driver: Any) -> None:
    while len(lines(folder)) < more and driver.poll() is None:
        time.sleep(0.005)


def ended(driver: Any) -> tuple[int, str, list[str]]:
    """Status, output and complaints of a driver; that it waits for room on a busy machine is none."""
    out, errors = driver.communicate()
    return driver.returncode, out, [line for line in errors.splitlines() if not line.startswith("Waiting for room")]


def check_whole(folder: Path, cells: int, lost: int) -> None:
    ran = [x for x, _ in lines(folder)]
    assert set(ran) == set(range(cells))
    assert len(ran) <= cells + lost
    frame = Sweep.load(folder / "sweep").frame
    frame = frame[frame["function"].str.endswith("logged")] if "function" in frame else frame
    assert frame["square"].tolist() == [x * x for x in range(cells)]
    assert frame["name"].tolist() == [f"cell {x}" for x in range(cells)]
    assert list((folder / "sweep" / "claims").iterdir()) == []


def test_workers_that_are_killed_lose_nothing(tmp_path: Path) -> None:
    cells, kills = 1000, 5
    driver = started(tmp_path, cells)
    killed = 0
    for kill in range(kills):
        wait_for(tmp_path, kill * cells // kills + random.randint(1, cells // kills // 2), driver)
        if driver.poll() is None:
            os.kill(lines(tmp_path)[-1][1], signal.SIGKILL)
            killed += 1
    assert ended(driver) == (0, "0\n", [])
    assert killed == kills
    check_whole(tmp_path, cells, killed)


def test_a_cell_that_kills_its_workers_fails_alone(tmp_path: Path) -> None:
    driver = started(tmp_path, 50, kind="dies")
    assert ended(driver) == (0, "1\n", [])
    failures = Sweep.load(tmp_path / "sweep").failures
    assert "died, twice" in failures["error"][0] and socket.gethostname() in failures["error"][0]
    check_whole(tmp_path, 50, 0)


def test_a_driver_that_is_killed_goes_on_and_takes_its_cluster_with_it(tmp_path: Path) -> None:
    cells, driver = 300, started(tmp_path, 300)
    for so_far in (random.randint(10, 60), random.randint(120, 200)):
        wait_for(tmp_path, so_far, driver)
        children = psutil.Process(driver.pid).children(recursive=True)
        driver.kill()
        driver.communicate()
        # Ray's own agents notice later, and run nothing.
        ran_cells = [each for each in children if "Agent" not in each.name()]
        assert {pid for _, pid in lines(tmp_path)[-1:]} <= {each.pid for each in ran_cells}
        _, alive = psutil.wait_procs(ran_cells, timeout=60)
        # Whoever is responsible for them may not have asked yet how they ended.
        assert [each for each in alive if each.status() != psutil.STATUS_ZOMBIE] == []
        before = {json.loads(path.read_bytes())["parameters"]["x"] for path in (tmp_path / "sweep/done").glob("*.json")}
        ran = len(lines(tmp_path))
        driver = started(tmp_path, cells)
    assert ended(driver) == (0, "0\n", [])
    assert not before & {x for x, _ in lines(tmp_path)[ran:]}
    # Two cells ran at each of two kills, and each of them may have ended unheard.
    check_whole(tmp_path, cells, 4)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[str, str, str]]:
    """A cluster that runs already: its head's address, the one for machines that are not part of it, and its token."""
    token = secrets.token_hex(32)
    environment = os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    head = Path(sys.executable).parent / "ray"
    words = [str(head), "start", "--head", "--num-cpus=2", f"--port={ports[0]}", f"--ray-client-server-port={ports[1]}"]
    words += ["--include-dashboard=false", "--disable-usage-stats", "--object-store-memory=100000000", "--block"]
    started = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    addresses = f"127.0.0.1:{ports[0]}", f"ray://127.0.0.1:{ports[1]}"
    try:
        for port in ports:
            while started.poll() is None:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    time.sleep(0.2)
        # Its port is open before it answers, and a sweep does not wait for a cluster that is still coming up.
        asked = [str(head), "status", f"--address={addresses[0]}"]
        while started.poll() is None:
            if subprocess.run(asked, check=False, capture_output=True, env=environment).returncode == 0:
                break
            time.sleep(0.2)
        yield *addresses, token
    finally:
        children = psutil.Process(started.pid).children(recursive=True)
        started.terminate()
        started.wait(60)
        psutil.wait_procs(children, timeout=60)


def test_clusters_that_run_already_are_left_running(tmp_path: Path, running: tuple[str, str, str]) -> None:
    for name, address in (("head", running[0]), ("client", running[1]), ("again", running[0])):
        folder = tmp_path / name
        folder.mkdir()
        out, errors = started(folder, 20, address=address, token=running[2]).communicate()
        assert (out, errors) == ("0\n", "")
        check_whole(folder, 20, 0)
    out, errors = started(tmp_path, 20, address=running[0], token="0" * 64).communicate()
    assert "cannot be used" in errors and "RAY_AUTH_TOKEN" in errors


def threads_and_x(cpus: int, x: int) -> int:
    import torch

    return torch.get_num_threads()


def needs(parameters: Any) -> Needs:
    return Needs(cpus=parameters["cpus"])


def test_cells_may_need_different_things(tmp_path: Path) -> None:
    given = [Cell(threads_and_x, {"cpus": cpus, "x": x}) for x in range(2) for cpus in (1, 2)]
    frame = ck.sweep(given, tmp_path, on=OnRay("local", needs=needs, workers=1), progress=False).frame
    assert frame["value"].tolist() == [1, 2, 1, 2]
    assert not ray.is_initialized()


def test_workers_that_cannot_start_stop_the_sweep(tmp_path: Path) -> None:
    broken = OnRay("local", workers=1, runtime_env={"env_vars": {"PYTHONPATH": str(tmp_path / "shadow")}})
    (tmp_path / "shadow" / "circuitkit").mkdir(parents=True)
    (tmp_path / "shadow" / "circuitkit" / "__init__.py").write_text("raise ImportError('not here')")
    with pytest.raises(SweepStoppedError, match=r"workers cannot start on the Ray cluster, 3 in a row"):
        ck.sweep(grid(threads_and_x, cpus=1, x=[1]), tmp_path / "out", on=broken, progress=False)
    assert list((tmp_path / "out" / "claims").iterdir()) == []


def test_from_the_shell(tmp_path: Path) -> None:
    (tmp_path / "asked.py").write_text(
        "def twice(x):\n    return 2 * x\n\ncells = [(twice, {'x': x}) for x in range(5)]"
    )
    words = ["sweep", "run", "asked.py:cells", "--on", "ray", "--workers", "1", "--cpus", "2", "--address", "local"]
    ran = subprocess.run(
        [Path(sys.executable).parent / "circuitkit", *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout) == (0, "5 of 5 cells are done in sweep/\n")
    assert Sweep.load(tmp_path / "sweep").frame["value"].tolist() == [0, 2, 4, 6, 8]


def test_an_interrupt_ends_workers_and_their_cells(tmp_path: Path) -> None:
    driver = started(tmp_path, 300)
    wait_for(tmp_path, 20, driver)
    driver.send_signal(signal.SIGINT)
    driver.communicate(timeout=60)
    assert driver.returncode != 0
    assert not any(psutil.pid_exists(pid) for _, pid in lines(tmp_path))
    assert list((tmp_path / "sweep" / "claims").iterdir()) == []
    assert isinstance(Sweep.load(tmp_path / "sweep").frame, pd.DataFrame)
