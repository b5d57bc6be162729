"""Running one cell: what its function returned, as columns and files, or how it failed.

An outcome holds plain data only, so that any process on any machine can run a cell and send it back.
"""

from __future__ import annotations

import json
import math
import random
import tempfile
import time
import traceback
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from circuitkit.results import Result
from circuitkit.studies.cells import Shown
from circuitkit.studies.pretrained import loaded
from circuitkit.studies.records import Failure, Stored

_SEEDS = 2**32

_OWN_COLUMNS = {"function", "older", "error", "traceback", "attempt"}
"""The table's own columns."""


@dataclass(frozen=True)
class Outcome:
    """How a cell ended.

    Attributes:
        columns: the returned numbers and texts by name.
        contents: the returned results and tensors by name, each as the bytes of a safetensors file.
        stored: what kind each of these is, with its size and checksum.
        failure: why the cell failed; None where it returned.
        seconds: how long it ran, the loading of its model included.
    """

    columns: Mapping[str, Shown] = field(default_factory=dict)
    contents: Mapping[str, bytes] = field(default_factory=dict)
    stored: Mapping[str, Stored] = field(default_factory=dict)
    failure: Failure | None = None
    seconds: float = 0.0

    @classmethod
    def failed(cls, error: str, seconds: float = 0.0) -> Outcome:
        """The outcome of a cell that ended without an exception of its own, such as with its process."""
        return cls(failure=Failure(_encodable(error), _encodable(error)), seconds=seconds)


def run_cell(function: Callable[..., Any], parameters: Mapping[str, Any], seed: int) -> Outcome:
    """Call a function, whatever becomes of it; only KeyboardInterrupt passes.

    torch, numpy and random start from the seed, and are put back as they were. Lists, tensors and the like are the
    cell's own copies, and a loaded model that the cell changed is not kept for the next.

    >>> run_cell(pow, {"base": 2, "exp": 3}, seed=0).columns
    {'value': 8}
    >>> run_cell(pow, {"base": 0, "exp": -1}, seed=0).failure.error[:17]
    'ZeroDivisionError'
    """
    began = time.perf_counter()
    try:
        with _seeded(seed), loaded(parameters) as own:
            returned = function(**own)
        columns, contents, stored = _kept(returned, parameters)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # CancelledError, GeneratorExit, or a panic of Rust's, is the cell's own too
        return Outcome(failure=_failure(error), seconds=time.perf_counter() - began)
    return Outcome(columns, contents, stored, None, time.perf_counter() - began)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002  # functions may use it
    torch.manual_seed(seed)
    np.random.seed(seed % _SEEDS)  # noqa: NPY002
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        random.setstate(before[2])


def _failure(error: BaseException) -> Failure:
    # The first frame is this file's.
    inner = error.__traceback__.tb_next if error.__traceback__ is not None else None
    lines = traceback.format_exception(type(error), error, inner)
    return Failure(_encodable(traceback.format_exception_only(error)[-1].strip()), _encodable("".join(lines)))


def _encodable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def _kept(returned: Any, parameters: Mapping[str, Any]) -> tuple[dict[str, Shown], dict[str, bytes], dict[str, Stored]]:
    columns: dict[str, Shown] = {}
    contents: dict[str, bytes] = {}
    stored: dict[str, Stored] = {}
    alone = not isinstance(returned, Mapping)
    for name, given in {"value": returned}.items() if alone else returned.items():
        if not isinstance(name, str):
            raise TypeError(f"the cell returned a mapping with the key {name!r}; name values by texts")
        value = given.item() if isinstance(given, Tensor | np.ndarray | np.generic) and given.ndim == 0 else given
        if (value is None and not alone) or isinstance(value, bool | int | float | str):
            found: Mapping[str, Shown] = {name: _plain(name, value)}
        elif isinstance(value, Result):
            found = {k if alone else f"{name}.{k}": v for k, v in _summary(value).items()}
            contents[name], kind = _bytes(value), "result"
        elif isinstance(value, Tensor):
            found, kind = {}, "tensor"
            contents[name] = save({"value": value.detach().cpu().contiguous()})
        else:
            what = "the cell returned" if alone else f"the cell returned {name!r} as"
            raise TypeError(
                f"{what} a {type(value).__qualname__}, which cannot be kept: return a number, a text, a tensor, "
                "a Result, or a mapping of them by name"
            )
        if name in contents:
            stored[name] = Stored("", kind, len(contents[name]), zlib.crc32(contents[name]))
        taken = parameters.keys() | _OWN_COLUMNS
        columns |= {f"returned.{key}" if key in taken else key: each for key, each in found.items()}
    return columns, contents, stored


def _plain(name: str, value: Shown) -> Shown:
    """A number or text without what its subclass adds, if it can be written down."""
    # bool has no subclasses.
    if isinstance(value, int) and not isinstance(value, bool):
        value = int.__int__(value)
    elif isinstance(value, float):
        value = float.__float__(value)
    elif isinstance(value, str):
        value = str.__str__(value)
    try:
        json.dumps([name, value], ensure_ascii=False).encode()
    except ValueError as error:
        raise ValueError(
            f"the cell returned {name!a} as a {type(value).__name__} that cannot be written down: {error}"
        ) from error
    return value


def _bytes(result: Result) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return result.save(Path(folder) / "result.safetensors").read_bytes()


def _summary(result: Result) -> dict[str, Shown]:
    """What a table says of a result: its baselines, and the largest effect and where it is."""
    effects = result.effects_per_example.double().mean(-1)
    told: dict[str, Shown] = {"metric": result.metric, "clean": result.baseline.clean_mean}
    if result.baseline.corrupt_mean is not None:
        told["corrupt"] = result.baseline.corrupt_mean
    if bool(effects.isnan().all()):
        return told
    at = int(effects.abs().nan_to_num(-math.inf).argmax())
    told["largest_effect"] = float(effects.flatten()[at])
    for axis, place in zip(result.axes, np.unravel_index(at, effects.shape), strict=True):
        names = result.labels.get(axis) or result.coordinates.get(axis)
        told[f"largest_{axis}"] = int(place) if names is None else names[int(place)]
    return told
