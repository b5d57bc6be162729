"""Starts `divided.py` in several processes, as torchrun does, and reads what they found."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent.parent
# A model of the tests' zoo is trained by an experiment, and defined there.
SEARCHED = os.pathsep.join(map(str, (TESTS, TESTS.parent / "experiments")))


def compare(folders: list[Path], out: Path, *, processes: int) -> dict[str, list[dict[str, Any]]]:
    """What each process found of each model, by the folder's name."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": SEARCHED, "CUDA_VISIBLE_DEVICES": ""}
    ended = subprocess.run(
        [*torchrun, str(TESTS / "parallel" / "divided.py"), str(out), *map(str, folders)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-6000:]
    return {
        folder.name: [json.loads((out / f"{folder.name}-{rank}.json").read_text()) for rank in range(processes)]
        for folder in folders
    }
