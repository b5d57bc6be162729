"""Functions that sweeps in tests call."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

import circuitkit as ck

RETURNS: list[object] = []


def square(x: float, log: str | None = None) -> float:
    if log is not None:
        with Path(log).open("a") as file:
            file.write(f"{x}\n")
    return x * x


def odd_ones_fail(x: int, broken: str = "") -> dict[str, float | str]:
    if x % 2 and not (broken and Path(broken).exists()):
        raise ZeroDivisionError(f"{x} is odd")
    return {"half": x / 2, "name": f"cell {x}"}


def dies(x: int) -> int:
    if x == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def leaves(x: int) -> int:
    if x == 1:
        sys.exit("leaving")
    return x


def threads(x: int) -> dict[str, float]:
    return {"threads": torch.get_num_threads(), "pid": os.getpid(), "drawn": float(torch.rand(()))}


def drawn(x: int) -> float:
    return float(torch.rand(()))


def model_size(model: ck.Model, x: int = 0) -> dict[str, int]:
    return {"layers": model.n_layers, "loaded": id(model)}


class Text(str):
    __slots__ = ()


class Panic(BaseException):
    pass


def hostile(kind: str) -> Any:
    if kind == "text":
        return Text("plain")
    if kind == "panic":
        raise Panic
    if kind == "loader":
        return sum(float(part.sum()) for part in torch.utils.data.DataLoader(torch.arange(4.0), num_workers=1))  # type: ignore[arg-type]
    return {"error": 5}
