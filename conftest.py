"""What every test and every docstring's example runs under: no network, one thread, a fixed seed."""

import os

# Before torch and huggingface_hub are imported, since both read these once.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("MPLBACKEND", "Agg")

from typing import Any

import hypothesis
import pytest
import torch

import circuitkit as ck

torch.set_num_threads(1)
# Without a deadline, since the machine may be busy; the same examples every time, so that a failure is a change's.
hypothesis.settings.register_profile("circuitkit", deadline=None, derandomize=True)
hypothesis.settings.load_profile("circuitkit")


def pytest_configure(config: pytest.Config) -> None:
    """Leave the slow suites out unless a mark is asked for."""
    if not config.option.markexpr:
        config.option.markexpr = "not slow"


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _names_in_examples(doctest_namespace: dict[str, Any]) -> None:
    doctest_namespace.update(ck=ck, torch=torch, Site=ck.Site, Model=ck.Model)
