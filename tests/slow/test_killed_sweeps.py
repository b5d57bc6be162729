"""Sweeps whose processes are killed with SIGKILL at random moments lose nothing and do nothing twice."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parent.parent / "studies" / "killing.py"


def killed(folder: Path, *words: object) -> dict[str, Any]:
    ran = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), *map(str, words)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    told: dict[str, Any] = json.loads(ran.stdout)
    return told


def check(told: dict[str, Any], cells: int, kills: int) -> None:
    assert told["killed"] >= 0.8 * kills
    assert told["lost"] == 0
    assert told["twice"] == 0
    # A cell that was running when its process was killed runs again, and no other.
    assert 0 <= told["more"] <= told["killed"]
    assert told["equal"] and told["rows"] == cells
    assert told["claims"] == []


def test_two_kills(tmp_path: Path) -> None:
    check(killed(tmp_path, "--kills", 2), 1000, 2)


def test_two_processes_on_one_folder(tmp_path: Path) -> None:
    check(killed(tmp_path, "--kills", 1, "--processes", 2, "--cells", 300), 300, 2)


@pytest.mark.slow
def test_twenty_kills(tmp_path: Path) -> None:
    check(killed(tmp_path, "--kills", 20), 1000, 20)


@pytest.mark.slow
def test_twenty_kills_of_two_processes_on_one_folder(tmp_path: Path) -> None:
    check(killed(tmp_path, "--kills", 10, "--processes", 2), 1000, 20)


@pytest.mark.slow
def test_kills_of_a_driver_with_two_workers(tmp_path: Path) -> None:
    told = killed(tmp_path, "--kills", 2, "--workers", 2, "--cells", 200)
    # Two cells run at a time, so each kill may cost two.
    check(told | {"more": told["more"] / 2}, 200, 2)
