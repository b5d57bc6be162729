"""Sweeps whose processes are killed with SIGKILL at random moments lose nothing and do nothing twice."""

import json
import signal
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


@pytest.mark.slow
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


STOPPED = """
import sys, time
import circuitkit as ck

def slow(x, out):
    if x == 1:
        print("running", flush=True)
        time.sleep(float(sys.argv[2]))
    return {"x2": 2 * x, "by": sys.argv[1]}

out = sys.argv[3]
frame = ck.sweep([(slow, {"x": x, "out": out}) for x in range(3)], out, progress=False, expires=1.0).frame
print(frame["by"].tolist())
"""


@pytest.mark.slow
def test_a_process_that_is_stopped_for_longer_than_its_claims_last(tmp_path: Path) -> None:
    (tmp_path / "stopped.py").write_text(STOPPED)
    command = [sys.executable, str(tmp_path / "stopped.py")]
    out = str(tmp_path / "out")
    first = subprocess.Popen([*command, "first", "0.5", out], stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None and first.stdout.readline() == "running\n"
    first.send_signal(signal.SIGSTOP)
    second = subprocess.run([*command, "second", "0", out], capture_output=True, text=True, check=True)
    expected = "['first', 'second', 'second']\n"
    assert second.stdout == "running\n" + expected
    first.send_signal(signal.SIGCONT)
    told, _ = first.communicate(timeout=60)
    assert (first.returncode, told) == (0, expected)
    assert len(list((tmp_path / "out" / "done").iterdir())) == 3
    assert not [path for path in (tmp_path / "out" / "claims").iterdir() if not path.name.startswith("owner")]
