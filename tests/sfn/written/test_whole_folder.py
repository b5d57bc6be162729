"""Folders that appear whole or not at all: refusals, full disks, Ctrl-C, and what killed processes leave."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys

import pytest

from circuitkit.sfn.written.whole_folder import WritingError, check_room, sweep_up, whole_folder


def inside(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_folder_is_put_in_place_when_the_block_ends(tmp_path):
    out = tmp_path / "a" / "b" / "out"
    with whole_folder(out, 10) as beside:
        (beside / "weights").write_bytes(b"all")
        assert not out.exists()
    assert inside(tmp_path) == ["a", "a/b", "a/b/out", "a/b/out/weights"]


@pytest.mark.parametrize("error", [RuntimeError("a bug"), KeyboardInterrupt()])
def test_an_error_leaves_nothing(tmp_path, error):
    with pytest.raises(type(error)), whole_folder(tmp_path / "new" / "out", 10) as beside:
        (beside / "weights").write_bytes(b"half")
        raise error
    assert inside(tmp_path) == []


def test_what_is_there_is_not_overwritten(tmp_path):
    (tmp_path / "out").mkdir()
    with (
        pytest.raises(WritingError, match=r"out is there already, and nothing is overwritten"),
        whole_folder(tmp_path / "out", 1),
    ):
        pass
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(WritingError, match="link is there already"), whole_folder(tmp_path / "link", 1):
        pass
    with pytest.raises(WritingError, match=r"late is there already"), whole_folder(tmp_path / "late", 1) as beside:
        (beside / "weights").write_bytes(b"new")
        (tmp_path / "late").mkdir()
        (tmp_path / "late" / "weights").write_bytes(b"another's")
    assert (tmp_path / "late" / "weights").read_bytes() == b"another's"
    assert inside(tmp_path) == ["late", "late/weights", "link", "out"]


def test_two_cannot_write_one_folder(tmp_path):
    with whole_folder(tmp_path / "out", 1) as beside:
        (beside / "weights").write_bytes(b"first")
        with pytest.raises(WritingError, match="another process is writing"), whole_folder(tmp_path / "out", 1):
            pass
        with whole_folder(tmp_path / "other", 1):
            pass
    assert inside(tmp_path) == ["other", "out", "out/weights"]


def test_a_disk_that_is_too_small_is_refused_before(tmp_path):
    needed = shutil.disk_usage(tmp_path).free + (1 << 40)
    with (
        pytest.raises(WritingError, match=r"no space is left; it needs [\d,.]+ MB"),
        whole_folder(tmp_path / "new" / "out", needed),
    ):
        pytest.fail("it was begun")
    with pytest.raises(WritingError, match="make room, or name a folder on another disk"):
        check_room(tmp_path / "new" / "out", needed)
    assert inside(tmp_path) == []


def test_a_disk_that_fills_up_leaves_nothing(small_disk):
    with (
        pytest.raises(WritingError, match="no space is left") as caught,
        whole_folder(small_disk / "out", 1000) as beside,
    ):
        (beside / "weights").write_bytes(bytes(4_000_000))
    assert isinstance(caught.value.__cause__, OSError) and caught.value.__cause__.errno == errno.ENOSPC
    assert inside(small_disk) == [] and shutil.disk_usage(small_disk).free > 1_000_000


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.EDQUOT, "the quota is used up"),
        (errno.EFBIG, "files may not be so large"),
        (errno.EACCES, "may not be written to: name another folder"),
        (errno.EIO, "could not be written, and nothing is left of it"),
    ],
)
def test_other_failures_of_the_disk_are_told(tmp_path, number, told):
    with pytest.raises(WritingError, match=told), whole_folder(tmp_path / "out", 1):
        raise OSError(number, os.strerror(number))
    assert inside(tmp_path) == []


def test_a_parent_that_is_a_file_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(WritingError, match="file is a file, or lies in one"),
        whole_folder(tmp_path / "file" / "out", 1),
    ):
        pass
    assert (tmp_path / "file").read_text() == ""


HOLDING = """
import sys, time
from pathlib import Path
from circuitkit.sfn.written.whole_folder import whole_folder
with whole_folder(Path(sys.argv[1]), 1) as beside:
    (beside / "weights").write_bytes(b"half")
    print("begun", flush=True)
    time.sleep(60)
"""


def test_a_killed_ones_rest_is_removed_by_the_next_and_a_living_ones_is_not(tmp_path):
    started = [
        subprocess.Popen([sys.executable, "-c", HOLDING, str(tmp_path / name)], stdout=subprocess.PIPE)
        for name in ("dead", "alive")
    ]
    try:
        for process in started:
            assert process.stdout is not None and process.stdout.readline() == b"begun\n"
        started[0].kill()
        started[0].wait()
        assert (tmp_path / ".dead.circuitkit-writing" / "weights").exists()
        with whole_folder(tmp_path / "out", 1):
            pass
        assert inside(tmp_path) == [
            ".alive.circuitkit-lock",
            ".alive.circuitkit-writing",
            ".alive.circuitkit-writing/weights",
            "out",
        ]
        with (
            pytest.raises(WritingError, match=r"another process is writing .*alive"),
            whole_folder(tmp_path / "alive", 1),
        ):
            pass
    finally:
        for process in started:
            process.kill()
            process.communicate()
    sweep_up(tmp_path)
    assert inside(tmp_path) == ["out"]


def test_what_another_user_is_writing_in_a_shared_folder_does_not_stand_in_the_way(tmp_path, monkeypatch):
    theirs, real = tmp_path / ".theirs.circuitkit-lock", os.open
    theirs.touch()

    def guarded(path, *more):
        if path == theirs:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, *more)

    monkeypatch.setattr(os, "open", guarded)
    with whole_folder(tmp_path / "out", 1):
        pass
    assert inside(tmp_path) == [theirs.name, "out"]


def test_a_lock_whose_file_was_removed_meanwhile_is_taken_anew(tmp_path, monkeypatch):
    real, taken = fcntl.flock, []

    def slow(descriptor, how):
        # The process that held it lets go between our opening its file and our locking it.
        if not taken:
            (tmp_path / ".out.circuitkit-lock").unlink()
        taken.append(descriptor)
        return real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", slow)
    with whole_folder(tmp_path / "out", 1):
        assert len(taken) >= 2 and (tmp_path / ".out.circuitkit-lock").exists()
    assert inside(tmp_path) == ["out"]
