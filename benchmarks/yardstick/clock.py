"""Seconds of a call, by the wall or the processor, with the device's work waited for."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Clock:
    """A clock for calls whose tensors are on one device.

    Attributes:
        device: where the calls' tensors are.
        processor: the process's own time instead of the wall's, which other work on the machine disturbs.
    """

    device: torch.device
    processor: bool = False

    def __post_init__(self) -> None:
        if self.processor and self.device.type != "cpu":
            raise SystemExit(f"processor time says nothing of {self.device}: leave --cpu-clock out")

    @property
    def name(self) -> str:
        return "processor" if self.processor else "wall"

    def seconds(self, run: Callable[[], Any]) -> float:
        """Seconds of one call."""
        tell = time.process_time if self.processor else time.perf_counter
        self._wait()
        began = tell()
        run()
        self._wait()
        return tell() - began

    def _wait(self) -> None:
        # A kernel is only queued when its call returns.
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def machine(device: torch.device) -> str:
    """What the figures were seen on: the card's name, or the processor's."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        import platform

        return platform.machine()
