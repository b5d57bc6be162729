"""What every test and every docstring's example runs under: no network, one thread, a fixed seed."""

import gc
import os
import sys

# Before torch and huggingface_hub are imported, since both read these once.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("MPLBACKEND", "Agg")

from collections.abc import Generator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
from _pytest.doctest import DoctestModule

import circuitkit as ck

# Tests log to no wandb, and trl would import it to see whether they could.
sys.modules["wandb"] = None  # type: ignore[assignment]

torch.set_num_threads(1)
# Without a deadline, since the machine may be busy; the same examples every time, so that a failure is a change's.
hypothesis.settings.register_profile("circuitkit", deadline=None, derandomize=True)
hypothesis.settings.load_profile("circuitkit")


def pytest_configure(config: pytest.Config) -> None:
    """Leave the slow suites out unless a mark is asked for, and what was imported out of the garbage collection."""
    if not config.option.markexpr:
        config.option.markexpr = "not slow"
    config.pluginmanager.register(_Imported())


TESTS = Path(__file__).parent / "tests"

LONGEST = (
    "tests/slow/test_ray_sweeps.py",
    "tests/slow/test_tensor_parallel.py",
    "tests/slow/test_who_reasons.py",
    "tests/experiments/test_finetuning.py",
    "tests/experiments/test_families.py",
    "tests/slow/test_killed_sweeps.py",
    "tests/studies/test_ray.py",
    "tests/test_readme.py",
)
"""Files that take longest; they are begun first, lest one worker have one of them left when the others are done."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(LONGEST)))


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path: Path) -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
    """Look for examples in the package alone: tests have none, and looking through all that they import takes long."""
    collectors = yield
    if not file_path.is_relative_to(TESTS):
        return collectors
    return [each for each in collectors if not isinstance(each, DoctestModule)]


class _Imported:
    """Takes the libraries that are imported out of what the garbage collector looks through.

    They are millions of objects and no garbage, and looking through them takes a second each time.
    """

    def __init__(self) -> None:
        self.known = 0

    def pytest_collectstart(self) -> None:
        # What is imported while tests are gathered is no garbage.
        gc.disable()

    def pytest_collection_finish(self) -> None:
        self.freeze(most=0)
        gc.enable()

    def pytest_runtest_logfinish(self) -> None:
        self.freeze(most=200)

    def freeze(self, most: int) -> None:
        """Leave aside what is there now, if more modules than so many have come since the last time."""
        if len(sys.modules) > self.known + most:
            self.known = len(sys.modules)
            gc.collect()
            gc.freeze()


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _names_in_examples(doctest_namespace: dict[str, Any]) -> None:
    doctest_namespace.update(ck=ck, torch=torch, Site=ck.Site, Model=ck.Model)
