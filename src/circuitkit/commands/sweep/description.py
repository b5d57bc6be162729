"""What a sweep's cells are, by a TOML file or by a name in Python."""

from __future__ import annotations

import importlib
import inspect
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import circuitkit
from circuitkit.commands.loading import LoadAs
from circuitkit.commands.sweep.studying import DRAWN, drawn_study
from circuitkit.studies import Cell, Pretrained, SweepError, grid

_TABLES = {"study": str, "parameters": dict, "grid": dict, "load": dict}


def described(source: str, load_as: LoadAs | None = None) -> list[Cell]:
    """The cells of a TOML file, or those that `MODULE:NAME` or `FILE.py:NAME` holds or returns.

    A file has `study`, a study of circuitkit such as "ablation.sweep" or a function as MODULE:NAME; `[parameters]`,
    the same in all cells; `[grid]`, lists that are combined, the first varying slowest; and `[load]`, how models are
    loaded. A study of circuitkit takes a `model` by name, its own settings, and its prompts from `pairs` (a file),
    `prompt` (texts), or `task`, `n` and `template`.

    Args:
        source: the file, or the name.
        load_as: loading options beside those of `[load]`, which they override.

    Raises:
        SweepError: the file or the name is not there, or says something else.
    """
    if source.endswith(".toml"):
        return _in_toml(Path(source), load_as)
    named = _named(source, Path.cwd())
    cells = named() if callable(named) else named
    if not isinstance(cells, list | tuple):
        raise SweepError(f"{source} is a {type(cells).__name__}: cells are a list of (function, parameters)")
    return list(cells)


def _in_toml(path: Path, load_as: LoadAs | None) -> list[Cell]:
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SweepError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    except tomllib.TOMLDecodeError as error:
        raise SweepError(f"{path} is not TOML: {error}") from error
    for name, value in told.items():
        if name not in _TABLES or not isinstance(value, _TABLES[name]):
            raise SweepError(f'{path}: {name!r} is not understood; it has study = "…", [parameters], [grid] and [load]')
    if "study" not in told:
        raise SweepError(f'{path} names no study: write study = "ablation.sweep", or a function as "module:name"')
    fixed, axes = told.get("parameters", {}), told.get("grid", {})
    for name, values in axes.items():
        if not isinstance(values, list) or not values:
            raise SweepError(
                f"{path}: [grid] {name} is a list of values; what is the same in all cells is [parameters]"
            )
    if twice := fixed.keys() & axes.keys():
        raise SweepError(f"{path}: {min(twice)!r} is in [parameters] and in [grid]")
    load = told.get("load", {}) | {k: v for k, v in asdict(load_as or LoadAs()).items() if v not in (None, False)}
    # A list of one is one value, whatever that value is.
    values = {name: [value] for name, value in fixed.items()} | axes
    return _cells(path, told["study"], values, load)


def _cells(path: Path, study: str, values: dict[str, list[Any]], load: Mapping[str, Any]) -> list[Cell]:
    if ":" in study:
        function = _named(study, path.parent)
        if not callable(function):
            raise SweepError(f"{study} is a {type(function).__name__}, and no function")
        if "model" in values and _takes_a_model(function):
            values["model"] = [_pretrained(path, name, load) for name in values["model"]]
        return grid(function, **values)
    function = _study(path, study)
    if "model" not in values:
        raise SweepError(f'{path} names no model: write model = ["deductor-5k"] under [grid]')
    values["model"] = [_pretrained(path, name, load) for name in values["model"]]
    if "pairs" in values:
        values["pairs"] = [path.parent / each for each in values["pairs"]]
    if absent := [each for each in values.get("pairs", []) if not each.is_file()]:
        raise SweepError(f"{path}: there is no file {absent[0]}")
    settings = inspect.signature(function).parameters
    own = [name for name in list(settings)[2:] if name not in ("progress", *DRAWN)]
    if unknown := values.keys() - DRAWN - {"model", *own}:
        raise SweepError(
            f"{path}: {study} has no {min(unknown)!r}; prompts are chosen by {', '.join(sorted(DRAWN))}, and it has "
            f"{', '.join(own)}"
        )
    return grid(drawn_study, study=[function], **values)


def _study(path: Path, name: str) -> Callable[..., Any]:
    found: Any = circuitkit
    try:
        for part in name.split("."):
            found = getattr(found, part)
        first = list(inspect.signature(found).parameters)[:2]
    except (AttributeError, TypeError, ValueError):
        first = []
    if first not in (["model", "pairs"], ["model", "prompts"]):
        raise SweepError(
            f"{path}: {name!r} is no study of a model and prompts; write one such as ablation.sweep or patching.sweep, "
            "or a function of your own as module:name"
        )
    study: Callable[..., Any] = found
    return study


def _pretrained(path: Path, name: Any, load: Mapping[str, Any]) -> Pretrained:
    if not isinstance(name, str):
        raise SweepError(f"{path}: a model is named by a text, not {name!r}")
    if unknown := load.keys() - LoadAs.__dataclass_fields__.keys():
        raise SweepError(f"{path}: [load] has no {min(unknown)!r}; it has {', '.join(LoadAs.__dataclass_fields__)}")
    settings = {key: load[key] for key in ("attn_implementation", "trust_remote_code") if key in load}
    return Pretrained(name, load.get("revision"), load.get("dtype"), load.get("device_map"), settings)


def _takes_a_model(function: Callable[..., Any]) -> bool:
    annotation = getattr(inspect.signature(function).parameters.get("model"), "annotation", None)
    return getattr(annotation, "__name__", str(annotation)).rpartition(".")[2] == "Model"


def _named(source: str, folder: Path) -> Any:
    module, _, name = source.rpartition(":")
    if not module or not name:
        raise SweepError(
            f"{source!r} is no sweep: give a .toml file, or cells in Python as MODULE:NAME or FILE.py:NAME"
        )
    file = folder / module
    if module.endswith(".py"):
        if not file.is_file():
            raise SweepError(f"there is no file {file}")
        folder, module = file.parent, file.stem
    # Where worker processes look too.
    if str(folder.resolve()) not in sys.path:
        sys.path.insert(0, str(folder.resolve()))
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise SweepError(f"{source}: {error}") from error
    except AttributeError as error:
        raise SweepError(f"{source}: {module} has no {name!r}") from error
