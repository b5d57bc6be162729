"""Merges that are killed, interrupted, or run out of disk at many moments leave no folder or a whole one."""

import os
import random
import signal
import subprocess
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

from circuitkit.sfn import Checkpoint, WritingError, merge
from circuitkit.sfn.written import copying, whole_folder, writing
from circuitkit.sfn.written.manifest import Manifest
from sfn import toys

pytestmark = pytest.mark.slow

NOT_KILLED, INTERRUPTED = 7, 9


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    place = tmp_path_factory.mktemp("pair")
    return tuple(
        Checkpoint.open(toys.written("llama", place / name, shards=4, seed=seed)) for seed, name in enumerate("ab")
    )


def forked(pair, out: Path, prepare: Callable[[], None] = lambda: None) -> int:
    """A merge in a process of its own, whose libraries are imported already."""
    child = os.fork()
    if child == 0:
        code = NOT_KILLED
        try:
            prepare()
            merge(*pair, ["o_proj", "mlp"], out, progress=False)
        except KeyboardInterrupt:
            code = INTERRUPTED
        except BaseException:
            traceback.print_exc()
            code = 1
        os._exit(code)
    return child


def check(pair, out: Path) -> bool:
    """Whether a folder is there; if so, it is whole."""
    if not out.exists():
        return False
    a, b = pair
    Manifest.load(out).verify(out, a)
    found = Checkpoint.open(out)
    for name in a.tensors:
        of = b if "o_proj" in name or ".mlp." in name else a
        assert toys.equal([(name, found.read(name))], [(name, of.read(name))])
    assert AutoModelForCausalLM.from_pretrained(out)(toys.ids()).logits.isfinite().all()
    names = {path.name for path in a.folder.iterdir()}
    assert {path.name for path in out.iterdir()} == names | {"manifest.json", "README.md"}
    return True


def hidden(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir() if path.name.startswith("."))


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def at_call(of: Any, name: str, number: int) -> Callable[[], None]:
    """The trap that kills the process when a function is called for a certain time, before it does anything.

    At number 0, once the function has first done what it does.
    """
    original, calls = getattr(of, name), [0]

    def counted(*args: Any, **settings: Any) -> Any:
        calls[0] += 1
        if calls[0] == number:
            killed()
        result = original(*args, **settings)
        if number == 0:
            killed()
        return result

    return lambda: setattr(of, name, counted)


# Before anything, in the weights, in the files beside them, before and behind the stroke that puts it in place.
MOMENTS: dict[str, tuple[Any, str, int, bool]] = {
    "before the lock": (whole_folder, "_make_parents", 1, False),
    "while the lock is taken": (whole_folder.fcntl, "flock", 1, False),
    "before the hidden folder": (Path, "mkdir", 1, False),
    "before the first shard": (Path, "open", 1, False),
    "between shards": (writing, "file_of", 3, False),
    "at the first edit": (writing.Tally, "add", 1, False),
    "among edits": (writing.Tally, "add", 7, False),
    "while writing": (os, "pwrite", 10, False),
    "at the first copy": (os, "copy_file_range", 1, False),
    "among copies": (os, "copy_file_range", 5, False),
    "before small files": (writing, "write_small_files", 1, False),
    "among small files": (writing.write_small_files.__globals__["shutil"], "copyfile", 2, False),
    "before the manifest": (Manifest, "save", 1, False),
    "before the disk is waited for": (whole_folder, "_on_disk", 1, False),
    "while the disk is waited for": (os, "fsync", 4, False),
    "while the disk is waited for again": (os, "fsync", 7, False),
    "before it is in place": (Path, "rename", 1, False),
    "once it is in place": (Path, "rename", 0, True),
    "before the lock is let go": (whole_folder._Lock, "release", 1, True),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_kill_leaves_nothing_or_everything_and_the_next_clears_up(pair, tmp_path, moment):
    of, name, number, there = MOMENTS[moment]
    _, status = os.waitpid(forked(pair, tmp_path / "out", at_call(of, name, number)), 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, "it was not killed"
    assert check(pair, tmp_path / "out") == there
    merge(*pair, ["o_proj", "mlp"], tmp_path / "next", progress=False)
    assert check(pair, tmp_path / "next") and hidden(tmp_path) == []
    if not there:
        merge(*pair, ["o_proj", "mlp"], tmp_path / "out", progress=False)
        assert check(pair, tmp_path / "out")


# The moments above are every kind that there is; these are for those that nobody thought of.
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_kills_and_interrupts_at_random_moments(pair, tmp_path, how, seed):
    moments = random.Random(seed)
    begun = time.monotonic()
    os.waitpid(forked(pair, tmp_path / "whole"), 0)
    longest = time.monotonic() - begun
    cut = 0
    for number in range(25):
        out = tmp_path / f"out{number}"
        child = forked(pair, out)
        time.sleep(moments.random() * longest)
        os.kill(child, how)
        _, status = os.waitpid(child, 0)
        whole = check(pair, out)
        cut += not whole
        if how == signal.SIGINT:
            assert os.WEXITSTATUS(status) in (NOT_KILLED, INTERRUPTED)
            assert whole or os.WEXITSTATUS(status) == INTERRUPTED
            # The empty lock alone, where Ctrl-C comes between taking and noting it.
            assert hidden(tmp_path) in ([], [f".out{number}.circuitkit-lock"])
    assert cut, "no merge was cut short"
    merge(*pair, ["o_proj", "mlp"], tmp_path / "last", progress=False)
    assert check(pair, tmp_path / "last") and hidden(tmp_path) == []


@pytest.mark.parametrize("within", [True, False])
def test_a_disk_that_fills_up_at_any_moment_leaves_nothing(pair, tmp_path, monkeypatch, within):
    monkeypatch.setattr(whole_folder, "check_room", lambda *_: None)
    if not within:
        monkeypatch.setattr(copying, "_within", lambda *_: 0)
    disk = tmp_path / "disk"
    disk.mkdir()
    failed = done = 0
    for kilobytes in range(16, 320, 12):
        mounting = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(disk)]
        if subprocess.run(mounting, capture_output=True, check=False).returncode:
            pytest.skip("a small disk cannot be mounted here: only root may")
        try:
            try:
                merge(*pair, ["o_proj", "mlp"], disk / "out", progress=False)
            except WritingError as error:
                assert "no space is left" in str(error)
                assert list(disk.iterdir()) == []
                failed += 1
            else:
                assert check(pair, disk / "out")
                done += 1
        finally:
            subprocess.run(["umount", str(disk)], check=True)
    assert failed > 5 and done > 2
