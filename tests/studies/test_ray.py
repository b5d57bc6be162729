"""Sweeps on Ray: what runs where, what a lost worker costs, and what cannot be asked for."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import circuitkit as ck
from circuitkit.commands.sweep.cluster import OnCluster, place
from circuitkit.studies import Cell, Pretrained, Sweep, SweepError, grid
from circuitkit.studies.ray import Needs, OnRay
from studies import functions

ray: Any = pytest.importorskip("ray", reason="Ray is not installed: pip install 'circuitkit[cluster]'")

LOCK = threading.Lock()


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level="CRITICAL", log_to_driver=False)
    yield
    ray.shutdown()


def cells(log: Path) -> list[Cell]:
    factor = 3

    def by_value(x: int) -> int:
        return factor * x

    def interrupts(x: int) -> int:
        raise KeyboardInterrupt

    def dies_once(x: int, log: str) -> int:
        if not Path(log).exists():
            Path(log).touch()
            functions.dies(1)
        return x

    models = [Pretrained("deductor-5k"), Pretrained("deductor-130k")]
    return [
        *(Cell(functions.model_size, {"model": models[x % 2], "x": x}) for x in range(8)),
        *grid(functions.threads, x=range(12)),
        *grid(by_value, x=[1, 2]),
        *grid(functions.odd_ones_fail, x=[1, 2]),
        *grid(functions.dies, x=[0, 2]),
        *grid(dies_once, x=5, log=str(log)),
        *grid(functions.leaves, x=[0, 1]),
        *grid(interrupts, x=0),
    ]


@pytest.fixture(scope="module")
def sweep(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    folder = tmp_path_factory.mktemp("ray")
    return ck.sweep(cells(folder / "log"), folder / "out", on="ray", progress=False)


def column(sweep: Sweep, function: str, name: str) -> list[Any]:
    rows = sweep.frame["function"].str.endswith(function)
    return list(sweep.frame.loc[rows, name])


def test_a_lost_worker_costs_its_cell_only(sweep: Sweep) -> None:
    assert len(sweep.frame) == 30
    assert column(sweep, "dies", "value") == [0, 2]
    assert column(sweep, "dies_once", "value") == [5]
    assert (Path(sweep.path) / "claims").exists() and not list((Path(sweep.path) / "claims").iterdir())


def test_failures_say_what_happened(sweep: Sweep) -> None:
    errors = dict(zip(sweep.failures["function"].str.rpartition(".")[2], sweep.failures["error"], strict=True))
    assert errors.keys() == {"odd_ones_fail", "leaves", "interrupts"}
    assert errors["odd_ones_fail"] == "ZeroDivisionError: 1 is odd"
    assert errors["leaves"] == "SystemExit: leaving"
    assert "KeyboardInterrupt" in errors["interrupts"]


def test_functions_of_no_module_travel(sweep: Sweep) -> None:
    assert column(sweep, "by_value", "value") == [3, 6]


def test_workers_have_one_thread_each_and_the_seeds_of_one_process(sweep: Sweep, tmp_path: Path) -> None:
    here = ck.sweep(grid(functions.threads, x=range(12)), tmp_path, progress=False).frame
    assert column(sweep, "threads", "threads") == [1] * 12
    assert os.getpid() not in column(sweep, "threads", "pid")
    assert column(sweep, "threads", "drawn") == here["drawn"].tolist()


def test_cells_go_where_their_model_is(sweep: Sweep) -> None:
    # Cells of two models take turns, and yet each of two workers loads one, or both once.
    loaded = column(sweep, "model_size", "loaded")
    assert column(sweep, "model_size", "layers") == [2, 3] * 4
    assert len(set(loaded)) <= 4
    assert len(set(loaded[::2])) + len(set(loaded[1::2])) <= 4


@pytest.mark.parametrize("asked", [{"gpus": 64}, {"cpus": 1000}, {"memory": 1e6}])
def test_what_no_machine_has(cluster: None, tmp_path: Path, asked: dict[str, float]) -> None:
    with pytest.raises(SweepError, match=r"no machine of the Ray cluster has cpus=.* 2 CPUs, "):
        ck.sweep(grid(functions.square, x=[1]), tmp_path, on=OnRay(**asked), progress=False)
    assert not list((tmp_path / "claims").iterdir())


def test_an_address_beside_a_connection(cluster: None, tmp_path: Path) -> None:
    with pytest.raises(SweepError, match=r"connected to a Ray cluster already.*ray\.shutdown"):
        ck.sweep(grid(functions.square, x=[1]), tmp_path, on=OnRay("auto"), progress=False)


def test_what_cannot_be_serialised_is_named_before_anything_runs(tmp_path: Path) -> None:
    def locked(x: int) -> int:
        with LOCK:
            return x

    with pytest.raises(SweepError, match=r"locked reads 'LOCK', which is or holds a lock.* pass it as a parameter"):
        ck.sweep(grid(locked, x=[1]), tmp_path / "out", on="ray", progress=False)
    with pytest.raises(SweepError, match=r"locked cannot be sent to a worker \(.*lock"):
        OnRay().check([Cell(locked, {"x": 1})])
    with pytest.raises(SweepError, match=r"parameter 'x' cannot be sent to a worker"):
        OnRay().check([Cell(functions.square, {"x": LOCK})])
    assert not (tmp_path / "out").exists()


SCRIPT = """
import circuitkit as ck
from circuitkit.studies import grid

OFFSET = 10

def of_a_script(x):
    print("not for the terminal")
    return x + OFFSET

if __name__ == "__main__":
    sweep = ck.sweep(grid(of_a_script, x=range(4)), "out", on="ray", workers=1, progress=False)
    print(sweep.frame["value"].tolist())
"""


@pytest.mark.slow
def test_a_cluster_of_ones_own_leaves_the_terminal_clean(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    ran = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (ran.stdout, ran.stderr) == ("[10, 11, 12, 13]\n", "")


def test_options_of_a_cluster_without_one() -> None:
    assert place("local", 2, OnCluster()) == "local"
    with pytest.raises(ValueError, match=r"--gpus is for a Ray cluster: give --on ray too"):
        place("local", None, OnCluster(gpus=1))


@pytest.fixture
def not_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)


@pytest.mark.parametrize("address", ["head", "ray://head", "ray://:10001", "head:port"])
def test_what_is_no_address(not_connected: None, tmp_path: Path, address: str) -> None:
    with pytest.raises(SweepError, match=r"write 'auto', 'host:6379' or 'ray://host:10001'"):
        ck.sweep(grid(functions.square, x=[1]), tmp_path, on=OnRay(address), progress=False)


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_that_refuses(not_connected: None, tmp_path: Path, scheme: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"{scheme}127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(SweepError, match=f"no Ray cluster answers at '{address}' .*refused.*`ray status`"):
        ck.sweep(grid(functions.square, x=[1]), tmp_path, on=OnRay(address), progress=False)
    # The sweep is there, and runs where it can.
    assert ck.sweep(grid(functions.square, x=[2]), tmp_path, progress=False).frame["value"].tolist() == [4]


def test_an_address_that_does_not_answer(not_connected: None, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(SweepError, match=f"no Ray cluster answers at '{address}' within 2 s"):
            ck.sweep(grid(functions.square, x=[1]), tmp_path, on=OnRay(address, timeout=2), progress=False)


def test_ray_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SweepError, match=r"pip install 'circuitkit\[cluster\]'"):
        ck.sweep(grid(functions.square, x=[1]), tmp_path / "out", on="ray", progress=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"workers": 0}, "workers=0"),
        ({"timeout": 0}, "timeout=0"),
        ({"cpus": -1}, "cpus=-1"),
        ({"gpus": 1.5}, "a part of one GPU"),
        ({"memory": float("nan")}, "memory=nan"),
    ],
)
def test_numbers_that_cannot_be_asked_for(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(SweepError, match=told):
        OnRay(**settings)


def test_needs_that_are_none() -> None:
    with pytest.raises(SweepError, match=r"needs= gave 2 for a cell"):
        OnRay(needs=lambda parameters: 2).check([Cell(functions.square, {"x": 1})])  # type: ignore[arg-type, return-value]


@given(st.integers(1, 4), st.integers(0, 2), st.integers(0, 3), st.tuples(*[st.integers(0, 9)] * 3))
def test_room_is_for_as_many_as_fit_together(cpus: int, gpus: int, memory: int, has: tuple[int, int, int]) -> None:
    asked = Needs(cpus, gpus, memory)
    machine = {"CPU": has[0], "GPU": has[1], "memory": has[2] * 2**30}
    fits = asked.fit(machine)
    parts = list(zip((cpus, gpus, memory), has, strict=True))
    assert all(fits * each <= there for each, there in parts)
    assert any((fits + 1) * each > there for each, there in parts)
