"""Cells in processes: what each does there, dies of, or leaves behind. One sweep, since a process takes seconds."""

import os
from pathlib import Path

import pandas as pd
import pytest

import circuitkit as ck
from circuitkit.studies import Sweep, grid
from studies import functions

THREADS = grid(functions.threads, x=range(6))
KINDS = ["text", "panic", "loader", "error"]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    cells = [
        *THREADS,
        *grid(functions.dies, x=[0, 1, 2]),
        *grid(functions.leaves, x=[0, 1]),
        *grid(functions.hostile, kind=KINDS),
    ]
    return ck.sweep(cells, tmp_path_factory.mktemp("workers"), workers=2, progress=False)


def of(frame: pd.DataFrame, function: str) -> pd.DataFrame:
    return frame[frame["function"] == f"studies.functions.{function}"]


def test_a_cell_may_leave_or_lose_its_process(sweep: Sweep) -> None:
    errors = dict(zip(sweep.failures["function"], sweep.failures["error"], strict=True))
    assert errors.keys() == {f"studies.functions.{name}" for name in ("dies", "leaves", "hostile")}
    assert errors["studies.functions.dies"] == (
        "the process that ran it ended with SIGKILL; the machine may have run out of memory"
    )
    assert errors["studies.functions.leaves"] == "SystemExit: leaving"
    assert len(sweep.failures) == 3 and len(sweep.frame) == 15
    assert of(sweep.frame, "dies")["value"].dropna().tolist() == [0, 2]


def test_workers_have_one_thread_each_and_do_as_one_process_does(sweep: Sweep, tmp_path: Path) -> None:
    many, one = of(sweep.frame, "threads"), ck.sweep(THREADS, tmp_path, progress=False).frame
    assert set(many["threads"]) == {1}
    assert os.getpid() not in set(many["pid"]) and set(one["pid"]) == {os.getpid()}
    assert many["drawn"].tolist() == one["drawn"].tolist()
    assert many["drawn"].nunique() == 6


def test_hostile_cells_cost_themselves_alone(sweep: Sweep) -> None:
    rows = of(sweep.frame, "hostile").set_index("kind")
    assert rows.index.tolist() == KINDS
    assert rows.loc["text", "value"] == "plain" and rows.loc["loader", "value"] == 6
    assert rows.loc["error", "returned.error"] == 5 and rows["error"].notna().tolist() == [False, True, False, False]
    assert "in hostile" in of(sweep.failures, "hostile")["traceback"].item()
