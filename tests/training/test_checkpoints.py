"""Checkpoints are whole or not there: after errors, kills at every moment, and on disks that are full."""

import contextlib
import os
import signal
import subprocess
import time
import traceback

import pytest
import torch
from safetensors.torch import load_file, save_file

from circuitkit.training import checkpoints
from circuitkit.training.errors import TrainingError
from file_limit import under_file_limit


def write(folder, step, value=1.0, count=1000):
    with checkpoints.written(folder, step) as beside:
        save_file({"weight": torch.full((count,), float(value))}, beside / "model.safetensors")
        torch.save({"state": torch.full((count,), float(value))}, beside / "optimizer.pt")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_checkpoints_are_found_again_by_their_steps_whatever_their_number_of_digits(tmp_path):
    assert checkpoints.last(tmp_path) is None and checkpoints.listed(tmp_path / "none") == {}
    for step in (99999, 20, 123456):
        write(tmp_path, step, step)
    assert list(checkpoints.listed(tmp_path)) == [20, 99999, 123456]
    newest = checkpoints.last(tmp_path)
    assert newest == tmp_path / "step-123456"
    assert load_file(newest / "model.safetensors")["weight"][0] == 123456
    assert checkpoints.size(newest) == sum(p.stat().st_size for p in newest.iterdir() if p.name != "whole.json")


def test_one_that_is_there_is_replaced(tmp_path):
    write(tmp_path, 10, 1)
    write(tmp_path, 10, 2)
    assert names(tmp_path) == ["step-00010"]
    assert load_file(tmp_path / "step-00010" / "model.safetensors")["weight"][0] == 2


def test_what_a_killed_process_left_is_not_in_the_way(tmp_path):
    left = checkpoints.hidden(tmp_path, 10)
    left.mkdir()
    (left / "half").write_bytes(b"half")
    write(tmp_path, 10)
    assert names(tmp_path) == ["step-00010"] and not (tmp_path / "step-00010" / "half").exists()


@pytest.mark.parametrize("stopped", [RuntimeError("something else"), KeyboardInterrupt()])
def test_an_error_while_writing_leaves_nothing_and_comes_through_as_it_is(tmp_path, stopped):
    write(tmp_path, 10)
    with pytest.raises(type(stopped)) as raised, checkpoints.written(tmp_path, 20) as beside:
        (beside / "half").write_bytes(b"half")
        raise stopped
    assert raised.value is stopped
    assert names(tmp_path) == ["step-00010"]


def test_pruning_leaves_what_is_to_be_kept(tmp_path):
    for step in (10, 20, 30):
        write(tmp_path, step)
    checkpoints.prune(tmp_path, {10, 30, 40})
    assert names(tmp_path) == ["step-00010", "step-00030"]


@pytest.mark.parametrize("fault", ["cut short", "missing", "unlisted"])
def test_a_spoiled_one_is_named_and_the_one_before_it_is_the_last(tmp_path, fault):
    for step in (10, 20):
        write(tmp_path, step)
    spoiled = tmp_path / "step-00020"
    if fault == "cut short":
        with (spoiled / "model.safetensors").open("r+b") as file:
            file.truncate(100)
    else:
        (spoiled / ("optimizer.pt" if fault == "missing" else "whole.json")).unlink()
    with pytest.warns(UserWarning, match=r"step-00020 is spoiled and left out: its (model|optimizer|whole)"):
        assert checkpoints.last(tmp_path) == tmp_path / "step-00010"
    write(tmp_path, 20, 3)
    assert list(checkpoints.listed(tmp_path)) == [10, 20]


def test_too_little_room_is_known_beforehand(tmp_path):
    write(tmp_path, 10)
    checkpoints.check_room(tmp_path, 20, 1000)
    with pytest.raises(TrainingError) as raised:
        checkpoints.check_room(tmp_path, 20, 10**18)
    told = str(raised.value)
    assert str(tmp_path) in told and "no space is left for the checkpoint of step 20" in told
    assert (
        "needs at least 1000000000.00 GB" in told and f"The last good one, {tmp_path / 'step-00010'}, is kept" in told
    )
    assert names(tmp_path) == ["step-00010"]


def filled(folder):
    """What is told of every way of writing a checkpoint for which there is no room."""
    found, large = {}, torch.zeros(1_000_000)
    writers = {
        "safetensors": lambda path: save_file({"a": large}, path),
        "torch": lambda path: torch.save({"a": large}, path),
        "python": lambda path: path.write_bytes(bytes(4_000_000)),
    }
    for name, writer in writers.items():
        with pytest.raises(TrainingError) as raised, checkpoints.written(folder, 20) as beside:
            writer(beside / "a")
        found[name] = str(raised.value), names(folder)
    return found


def checked(folder, found):
    assert set(found) == {"safetensors", "torch", "python"}
    for told, left in found.values():
        assert told.startswith(f"{folder}: ") and "for the checkpoint of step 20" in told
        assert f"The last good one, {folder / 'step-00010'}, is kept: make room" in told
        assert left == ["step-00010"]
    return {name: told for name, (told, _) in found.items()}


def test_files_that_grow_too_large_leave_the_last_good_one(tmp_path):
    folder = tmp_path / "checkpoints"
    write(folder, 10)
    told = checked(folder, under_file_limit(lambda: filled(folder), 1_000_000))
    assert "could not be written in full" in told["torch"]
    assert "files may not be so large" in told["python"] and "files may not be so large" in told["safetensors"]


def test_a_full_disk_leaves_the_last_good_one(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk]
    if subprocess.run(mounting, capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here: only root may")
    try:
        write(disk, 10)
        told = checked(disk, filled(disk))
    finally:
        subprocess.run(["umount", disk], check=True)
    assert "could not be written in full" in told["torch"]
    assert "no space is left" in told["python"] and "no space is left" in told["safetensors"]


def writes_on(folder, step, told):
    while True:
        step += 1
        with checkpoints.written(folder, step) as beside:
            for number in range(5):
                (beside / str(number)).write_bytes(str(step).encode() * 1000)
        checkpoints.prune(folder, {step})
        os.write(told, b".")


@contextlib.contextmanager
def writing(folder, step):
    """A process that writes and prunes without end, once it has written one; forked, so that nothing is imported."""
    heard, told = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            writes_on(folder, step, told)
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    os.close(told)
    try:
        yield os.read(heard, 1)
    finally:
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        os.close(heard)
    assert os.WIFSIGNALED(status), "it ended before it was killed"


def kill_while_writing(folder, kills):
    step, left = 0, 0
    for kill in range(kills):
        with writing(folder, step) as began:
            assert began == b"."
            # Writing, putting in place and pruning take some milliseconds each: any of them may be cut short.
            time.sleep(0.0037 * kill)
        left += sum(path.name.startswith(".") for path in folder.iterdir())
        checkpoints.sweep_up(folder)
        # No checkpoint is half: `listed` warns of one, which fails the test.
        found = checkpoints.listed(folder)
        assert 1 <= len(found) <= 2
        assert sorted(found.values()) == sorted(folder.iterdir())
        step = max(found)
        for at, path in found.items():
            assert all((path / str(number)).read_bytes() == str(at).encode() * 1000 for number in range(5))
    return left


# Most of the time is spent writing, so that most kills leave something that is swept up.
@pytest.mark.filterwarnings("error::UserWarning")
def test_forty_kills_while_writing_and_pruning_leave_whole_ones(tmp_path):
    assert kill_while_writing(tmp_path / "checkpoints", 40) >= 10
