"""What a comparison holds in memory, beside the pages of the files."""

import threading
from pathlib import Path

import pytest
import torch

import circuitkit as ck
from circuitkit.sfn.differences import spectra
from sfn import toys

STATUS = Path("/proc/self/status")


def held():
    """MiB of this process that no file backs."""
    return int(STATUS.read_text().split("RssAnon:")[1].split()[0]) / 1024


class Watch:
    """The most that is held while something runs, beyond what was before."""

    def __enter__(self):
        self.before = self.most = held()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.look)
        self.thread.start()
        return self

    def look(self):
        while not self.ended.wait(0.001):
            self.most = max(self.most, held())

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()
        self.added = self.most - self.before


@pytest.mark.skipif(not STATUS.exists(), reason="reads a process's memory from /proc, which is Linux's")
@pytest.mark.parametrize("vocabulary", [100_000, 200_000])
def test_what_is_held_does_not_grow_with_a_tensor(vocabulary, tmp_path, monkeypatch):
    monkeypatch.setattr(spectra, "HELD", 1 << 20)
    a, b = (
        toys.written("llama", tmp_path / str(seed), dtype=torch.bfloat16, seed=seed, vocab_size=vocabulary)
        for seed in (0, 1)
    )
    ck.sfn.delta("deductor-20k-base", "deductor-20k", progress=False)
    with Watch() as watch:
        found = ck.sfn.delta(a, b, ["embed"], bimodality=False, progress=False)
    assert found.frame["elements"].iloc[0] >= 32 * vocabulary
    # Each of both takes 24 MiB or 49 MiB in float64, and so does their difference.
    assert watch.added < 40
