"""What is wrong is named before anything runs, and what was spoiled is set aside and run again."""

import errno
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import circuitkit as ck
from circuitkit.studies import Sweep, SweepError, SweepStoppedError, grid, placing
from file_limit import under_file_limit
from studies.functions import square


def swept(cells: Any, out: Path, **settings: Any) -> Sweep:
    return ck.sweep(cells, out, progress=False, **settings)


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        ([], "there are no cells to run"),
        ([square], "a cell is \\(function, parameters\\)"),
        ([(square, [1])], "a cell is a function and a mapping"),
        ([("square", {"x": 1})], "a cell is a function and a mapping"),
        ([(square, {"x": 1}), (square, {"y": 1})], "cell 1: .*square cannot be called so: missing .* 'x'"),
        ([(square, {1: 1})], "parameter 1 is not named by a text"),
        ([(square, {"x": object()})], "cell 0 of .*square: parameter 'x' is or holds a object, which cannot be hashed"),
        ([(square, {"x": [1, {"a": open}, (i for i in ())]})], "parameter 'x' is or holds a generator"),
        ([(square, {"x": torch.nn.Linear(1, 1)})], "parameter 'x' is or holds a Linear"),
    ],
)
def test_a_cell_that_is_none(tmp_path: Path, cells: Any, told: str) -> None:
    with pytest.raises(SweepError, match=told):
        swept(cells, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_sent_to_another_process(tmp_path: Path) -> None:
    def local(x: int) -> int:
        return x

    with pytest.raises(SweepError, match="local cannot be sent to another process: define the function at the top"):
        swept([(local, {"x": 1})], tmp_path, workers=2)
    assert swept([(local, {"x": 1})], tmp_path).frame["value"].tolist() == [1]
    with pytest.raises(SweepError, match="at least one process"):
        swept([(square, {"x": 1})], tmp_path, workers=0)
    with pytest.raises(SweepError, match="'local' or 'ray'"):
        swept([(square, {"x": 1})], tmp_path, on="cloud")


def test_a_session_without_a_file_has_no_functions_for_others(tmp_path: Path) -> None:
    code = (
        "import circuitkit as ck\ndef f(x):\n    return x\n"
        f"print(ck.sweep([(f, {{'x': 1}})], {str(tmp_path)!r}, progress=False).frame)\n"
        f"ck.sweep([(f, {{'x': 2}})], {str(tmp_path)!r}, workers=2)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "value" in ran.stdout
    assert "__main__.f is defined in a session that other processes cannot import: put the function into a module" in (
        ran.stderr
    )


@pytest.mark.slow
def test_a_script_without_a_guard_is_told_what_it_lacks(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import circuitkit as ck\ndef f(x):\n    return x\n"
        f"ck.sweep([(f, {{'x': 1}})], {str(tmp_path / 'out')!r}, workers=2, progress=False)"
    )
    ran = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "SweepStoppedError" in ran.stderr and 'if __name__ == "__main__":' in ran.stderr.splitlines()[-1]


@pytest.mark.parametrize("how", ["cut short", "altered", "empty", "other JSON", "not JSON"])
@pytest.mark.parametrize("kind", ["done", "failed"])
def test_a_spoiled_file_is_set_aside_named_and_run_again(tmp_path: Path, how: str, kind: str) -> None:
    def fails(x: int) -> int:
        raise ValueError(x)

    cells = grid(square if kind == "done" else fails, x=[1, 2])
    whole = swept(cells, tmp_path)
    path = tmp_path / kind / f"{whole.records[1].key}.json"
    data = path.read_bytes()
    spoiled = {
        "cut short": data[:-5],
        "altered": data.replace(b'"x": 2', b'"x": 3'),
        "empty": b"",
        "other JSON": b"{}",
        "not JSON": b"\xff" * len(data),
    }[how]
    path.write_bytes(spoiled)
    with pytest.warns(UserWarning, match=f"{path.name} is spoiled .* will be run again"):
        again = swept(cells, tmp_path)
    assert again.frame.equals(whole.frame)
    (aside,) = (tmp_path / "spoiled").iterdir()
    assert aside.read_bytes() == spoiled
    assert Sweep.load(tmp_path).frame.equals(whole.frame)


def test_a_result_whose_tensor_is_missing_or_cut_is_run_again(tmp_path: Path) -> None:
    def tensor(x: int) -> torch.Tensor:
        return torch.arange(x)

    cells = grid(tensor, x=[3, 4])
    first = swept(cells, tmp_path)
    files = [tmp_path / "done" / record.stored["value"].file for record in first.records]
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:-1])
    with pytest.warns(UserWarning, match="is missing|is cut short"):
        again = swept(cells, tmp_path)
    assert [again.value(row).tolist() for row in (0, 1)] == [[0, 1, 2], [0, 1, 2, 3]]  # type: ignore[union-attr]


def test_what_was_stored_goes_aside_with_its_record(tmp_path: Path) -> None:
    def tensor(x: int) -> torch.Tensor:
        return torch.arange(x)

    cells = grid(tensor, x=[3])
    (record,) = swept(cells, tmp_path).records
    (tmp_path / "done" / f"{record.key}.json").write_bytes(b"")
    with pytest.warns(UserWarning, match="is spoiled"):
        swept(cells, tmp_path)
    assert len(list((tmp_path / "done").glob("*.safetensors"))) == 1
    assert len(list((tmp_path / "spoiled").iterdir())) == 2


@pytest.mark.parametrize("data", [b"", b'{"cells": [', b"[]", b'{"cells": ["altered"]}'])
def test_a_spoiled_list_is_set_aside_and_written_anew(tmp_path: Path, data: bytes) -> None:
    cells = grid(square, x=[1, 2])
    swept(cells, tmp_path)
    (path,) = (tmp_path / "lists").iterdir()
    whole = json.loads(path.read_bytes())["cells"]
    path.write_bytes(data)
    with pytest.warns(UserWarning, match=f"{path.name} is spoiled .*the next run of its sweep writes it anew"):
        assert sorted(Sweep.load(tmp_path).frame["value"]) == [1, 4]
    path.write_bytes(data)
    with pytest.warns(UserWarning, match="is spoiled"):
        swept(cells, tmp_path)
    assert json.loads(path.read_bytes())["cells"] == whole
    assert Sweep.load(tmp_path).frame["value"].tolist() == [1, 4]


def test_a_folder_of_another_version(tmp_path: Path) -> None:
    cells = grid(square, x=[1])
    swept(cells, tmp_path)
    (tmp_path / "sweep.json").write_text(json.dumps({"format": 7, "circuitkit": "9.0"}))
    for use in (lambda: swept(cells, tmp_path), lambda: Sweep.load(tmp_path)):
        with pytest.raises(SweepError, match=r"was written by circuitkit 9.0 in format 7, .* reads format 2"):
            use()
    (tmp_path / "sweep.json").write_text("{")
    with pytest.raises(SweepError, match=r"sweep.json is spoiled"):
        swept(cells, tmp_path)


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(SweepError, match=r"holds 'notes.txt' and no sweep"):
        swept(grid(square, x=[1]), tmp_path)
    with pytest.raises(SweepError, match="is a file"):
        swept(grid(square, x=[1]), tmp_path / "notes.txt")
    with pytest.raises(SweepError, match=r"it has no sweep.json"):
        Sweep.load(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_stops_the_sweep_and_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    cells, out = grid(square, x=range(5)), tmp_path / "out"
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if path.parent.name == "done" and len(list(path.parent.iterdir())) >= 3:
            write(path, data[:10])
            raise OSError(number, "full")
        return write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(placing.Path, "write_bytes", full)
        with pytest.raises(SweepStoppedError, match="what was finished is kept: make room and run again"):
            swept(cells, out)
    assert len(list((out / "done").iterdir())) == 3 and list((out / "claims").iterdir()) == []
    assert swept(cells, out).frame["x"].tolist() == list(range(5))


def test_a_folder_that_may_not_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, *args: object, **settings: object) -> None:
        raise PermissionError(errno.EACCES, "refused")

    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(SweepStoppedError, match="may not be written to: name another folder"):
        swept(grid(square, x=[1]), tmp_path / "out")


def test_a_real_limit_on_files(tmp_path: Path) -> None:
    """A process that may not write more than some kilobytes to a file stops in the same way."""

    def zeros(n: int) -> torch.Tensor:
        return torch.zeros(n)

    def stopped() -> str:
        with pytest.raises(SweepStoppedError) as raised:
            swept(grid(zeros, n=[10, 10_000]), tmp_path)
        return str(raised.value)

    told = under_file_limit(stopped, 4096)
    assert "larger than files may be here; what was finished is kept: raise the limit" in told
    assert sorted(path.suffix for path in (tmp_path / "done").iterdir()) == [".json", ".safetensors"]
