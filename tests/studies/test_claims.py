"""Claims: one process has a cell, until it gives it back, dies, or is silent for too long."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import circuitkit as ck
from circuitkit.studies import Sweep, grid
from circuitkit.studies.claims import Claims, Owner, running
from circuitkit.studies.folder import Folder
from circuitkit.studies.records import Record
from studies.functions import square


def someone(folder: Path, owner: Owner, key: str, ago: float = 0.0, number: int = 0) -> Path:
    """A claim as another process leaves it, touched some seconds ago."""
    path = folder / f"owner.{owner.token}"
    if not path.exists():
        path.write_text(json.dumps(vars(owner)))
    claim = folder / f"{key}.{number}"
    os.link(path, claim)
    os.utime(path, (time.time() - ago,) * 2)
    return claim


ELSEWHERE = Owner("elsewhere", "another", "another boot", 1, "1")


def gone() -> Owner:
    """An owner on this machine whose process has ended."""
    here = Owner.here()
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return Owner("gone", here.host, here.place, process.pid, "1")


def test_a_claim_is_one_processs_until_released(tmp_path: Path) -> None:
    with Claims(tmp_path) as mine, Claims(tmp_path) as others:
        assert mine.take("a")
        assert not others.take("a")
        assert running(tmp_path).keys() == {"a"}
        mine.release("a")
        assert others.take("a")
    assert list(tmp_path.iterdir()) == []


def test_a_living_process_elsewhere_keeps_its_claim_until_it_expires(tmp_path: Path) -> None:
    someone(tmp_path, ELSEWHERE, "a", ago=50)
    with Claims(tmp_path, expires=100) as claims:
        assert not claims.take("a")
        assert claims.living() == {"elsewhere", claims.owner.token}
    with Claims(tmp_path, expires=40) as claims:
        assert claims.take("a")
        assert running(tmp_path)["a"].token == claims.owner.token
        assert claims.living() == {claims.owner.token}


def test_a_dead_process_here_loses_its_claim_at_once(tmp_path: Path) -> None:
    someone(tmp_path, gone(), "a")
    assert running(tmp_path) == {}
    with Claims(tmp_path) as claims:
        assert claims.take("a")
        claims.release("a")
        claims.tidy({"a"})
        assert [path.name for path in tmp_path.iterdir()] == [f"owner.{claims.owner.token}"]


def test_a_process_id_that_is_used_again_is_another_process(tmp_path: Path) -> None:
    here = Owner.here()
    assert not here.is_dead()
    assert Owner("t", here.host, here.place, here.pid, "12").is_dead()
    assert not Owner("t", here.host, "another boot", here.pid, "12").is_dead()


def test_one_of_many_takers_gets_an_expired_claim(tmp_path: Path) -> None:
    """Twelve threads with claims of their own, all at once, over and over."""
    for turn in range(20):
        someone(tmp_path, ELSEWHERE, f"k{turn}", ago=1000)
        barrier, won = threading.Barrier(12), []

        def take(key: str, barrier: threading.Barrier = barrier, won: list[str] = won) -> None:
            with Claims(tmp_path, expires=100) as claims:
                barrier.wait()
                if claims.take(key):
                    won.append(claims.owner.token)
                barrier.wait()

        threads = [threading.Thread(target=take, args=(f"k{turn}",)) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1


def test_a_claim_that_was_lost_is_not_taken_from_its_new_owner(tmp_path: Path) -> None:
    with Claims(tmp_path, expires=1000) as slow, Claims(tmp_path, expires=1000) as other:
        assert slow.take("a")
        os.utime(tmp_path / "a.0", (0, 0))
        assert other.take("a")
        other.release("a")
        assert other.take("a")
        slow.release("a")
        assert running(tmp_path)["a"].token == other.owner.token


def test_who_was_taken_for_dead_goes_on(tmp_path: Path) -> None:
    with Claims(tmp_path) as claims:
        (tmp_path / f"owner.{claims.owner.token}").unlink()
        assert claims.take("a")
        assert running(tmp_path)["a"].token == claims.owner.token


def test_claims_are_kept_fresh(tmp_path: Path) -> None:
    with Claims(tmp_path, expires=0.3) as claims:
        assert claims.take("a")
        first = (tmp_path / "a.0").stat().st_mtime_ns
        while (tmp_path / "a.0").stat().st_mtime_ns == first:
            time.sleep(0.01)
        assert running(tmp_path).keys() == {"a"}


def test_a_sweep_waits_for_cells_that_others_run(tmp_path: Path) -> None:
    cells, out = grid(square, x=[1, 2], log=str(tmp_path / "log")), tmp_path / "out"
    whole = ck.sweep(cells, out, progress=False)
    record = out / "done" / f"{whole.records[0].key}.json"
    aside = tmp_path / record.name
    record.rename(aside)
    someone(out / "claims", ELSEWHERE, whole.records[0].key)
    timer = threading.Timer(0.3, lambda: aside.rename(record))
    timer.start()
    assert ck.sweep(cells, out, progress=False).frame.equals(whole.frame)
    timer.join()
    assert (tmp_path / "log").read_text().split() == ["1", "2"]


def test_a_slow_process_whose_claim_expired_comes_second(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def slow(x: int) -> float:
        # Meanwhile another machine takes the cell over and finishes it.
        (asked,) = (out / "lists").iterdir()
        (key,) = json.loads(asked.read_text())["cells"]
        assert Folder(out).write(Record(key, "slow", {"x": x}, {"value": -1.0}), {}, "elsewhere")
        return 1.0

    assert ck.sweep([(slow, {"x": 1})], out, progress=False).frame["value"].tolist() == [-1]
    assert Sweep.load(out).frame["value"].tolist() == [-1]
    assert len(list((out / "done").iterdir())) == 1


@pytest.mark.parametrize("spoiled", ["", "{", "[]"])
def test_a_spoiled_claim_expires_by_its_age(tmp_path: Path, spoiled: str) -> None:
    (tmp_path / "a.0").write_text(spoiled)
    with Claims(tmp_path, expires=100) as claims:
        assert not claims.take("a")
        os.utime(tmp_path / "a.0", (0, 0))
        assert claims.take("a")
