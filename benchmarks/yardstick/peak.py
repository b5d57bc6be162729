"""How much memory a call adds at its peak."""

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def added_mib(run: Callable[[], Any], device: torch.device | str = "cpu") -> float | None:
    """MiB that one call adds at its peak: to the process, or to the device's tensors; None where nothing tells.

    What the call returns is alive at its end, and is part of it.
    """
    gc.collect()
    if torch.device(device).type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        kept = run()
        peak = torch.cuda.max_memory_allocated(device)
        del kept
        return (peak - before) / 2**20
    try:
        # Freed memory that the allocator holds on to would hide what a call takes of it.
        ctypes.CDLL(None).malloc_trim(0)
        _CLEAR.write_text("5")
        before = _kib("VmRSS")
    except (OSError, AttributeError, StopIteration):
        return None
    kept = run()
    peak = _kib("VmHWM")
    del kept
    return (peak - before) / 1024


def _kib(field: str) -> int:
    return int(next(line for line in _STATUS.read_text().splitlines() if line.startswith(field)).split()[1])
