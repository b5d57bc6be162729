"""Cells: a function and its parameters each, checked and named before anything runs."""

from __future__ import annotations

import inspect
import itertools
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

import circuitkit
from circuitkit.studies.code import UnhashableError
from circuitkit.studies.errors import SweepError
from circuitkit.studies.identity import Identity, digest_of_json, named, shown
from circuitkit.studies.pretrained import Pretrained

Shown = bool | int | float | str | None


class Cell(NamedTuple):
    """A function and the parameters that it is called with."""

    function: Callable[..., Any]
    parameters: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class NamedCell:
    """A cell that has been checked, with its names.

    Attributes:
        key: the hash of all that it depends on; the name of its file.
        cell: what is called; its models are pinned.
        function: the function's name.
        shown: its parameters as the table has them.
    """

    key: str
    cell: Cell
    function: str
    shown: Mapping[str, Shown]

    @property
    def seed(self) -> int:
        """What the generators of random numbers start from when the cell runs."""
        return int(self.key[:15], 16)


def grid(function: Callable[..., Any], /, **parameters: Any) -> list[Cell]:
    """Every combination of the parameters' values, the first parameter varying slowest.

    A list, tuple, range or one-dimensional array holds several values, anything else is one value for all cells; a list
    that is a value itself stands in a list of one. Grids are added with `+`.

    Raises:
        SweepError: a parameter has no values.

    >>> [cell.parameters for cell in grid(pow, base=[2, 3], exp=2)]
    [{'base': 2, 'exp': 2}, {'base': 3, 'exp': 2}]
    """
    values: list[Sequence[Any]] = []
    for name, value in parameters.items():
        given = value.tolist() if isinstance(value, np.ndarray) and value.ndim == 1 else value
        several = isinstance(given, list | tuple | range) and not hasattr(given, "_fields")
        if several and not len(given):
            raise SweepError(f"{name!r} has no values: give one at least, or leave it out")
        values.append(given if several else [given])
    return [Cell(function, dict(zip(parameters, each, strict=True))) for each in itertools.product(*values)]


def name_cells(cells: Iterable[tuple[Callable[..., Any], Mapping[str, Any]]], version: str = "") -> list[NamedCell]:
    """Check every cell and name it; one that is there twice is there once.

    Args:
        cells: functions and their parameters.
        version: what else the code depends on, in the user's words.

    Raises:
        SweepError: there is no cell, a function does not take its parameters, or a parameter cannot be hashed.

    >>> [cell.function for cell in name_cells([(pow, {"base": 2, "exp": 3})])]
    ['builtins.pow']
    """
    identity = Identity()
    checks = _Checks()
    found: dict[str, NamedCell] = {}
    for number, given in enumerate(cells):
        cell = checks.checked(number, given)
        try:
            code = identity.canonical(cell.function)
        except UnhashableError as error:
            raise SweepError(
                f"cell {number}: the function {_called(cell.function)} reads {error}, which cannot be hashed: pass it "
                "as a parameter, of plain values, or make it inside the function"
            ) from error
        told = {name: _canonical(identity, number, cell, name, value) for name, value in cell.parameters.items()}
        key = digest_of_json([_called(cell.function), told, code, version, circuitkit.__version__])
        if key not in found:
            columns = {name: shown(value) for name, value in cell.parameters.items()}
            found[key] = NamedCell(key, cell, _called(cell.function), columns)
    if not found:
        raise SweepError("there are no cells to run: give a list of (function, parameters), or a grid")
    return list(found.values())


class _Checks:
    """Checks cells, asking each function for its signature and each model for its revision once."""

    def __init__(self) -> None:
        # Objects are kept too, so that no other takes an id meanwhile.
        self._signatures: dict[int, tuple[Any, inspect.Signature]] = {}
        self._pins: dict[int, tuple[Pretrained, Pretrained]] = {}

    def checked(self, number: int, given: Any) -> Cell:
        """A cell that can be called, with its models pinned."""
        try:
            function, parameters = given
        except (TypeError, ValueError) as error:
            raise SweepError(f"cell {number} is {given!r:.80}: a cell is (function, parameters)") from error
        if not callable(function) or not isinstance(parameters, Mapping):
            raise SweepError(
                f"cell {number} is ({type(function).__name__}, {type(parameters).__name__}): a cell is a function and "
                "a mapping of its parameters"
            )
        if unnamed := [name for name in parameters if not isinstance(name, str)]:
            raise SweepError(f"cell {number}: parameter {unnamed[0]!r} is not named by a text")
        try:
            self._signature(function).bind(**parameters)
        except TypeError as error:
            raise SweepError(f"cell {number}: {_called(function)} cannot be called so: {error}") from error
        return Cell(function, {name: self._pinned(value) for name, value in parameters.items()})

    def _signature(self, function: Callable[..., Any]) -> inspect.Signature:
        if id(function) not in self._signatures:
            try:
                found = inspect.signature(function)
            except ValueError:  # a few builtins have none to ask
                found = inspect.Signature([inspect.Parameter("anything", inspect.Parameter.VAR_KEYWORD)])
            self._signatures[id(function)] = (function, found)
        return self._signatures[id(function)][1]

    def _pinned(self, value: Any) -> Any:
        if not isinstance(value, Pretrained):
            return value
        if id(value) not in self._pins:
            self._pins[id(value)] = (value, value.pinned())
        return self._pins[id(value)][1]


def _canonical(identity: Identity, number: int, cell: Cell, name: str, value: Any) -> Any:
    try:
        return identity.canonical(value)
    except UnhashableError as error:
        raise SweepError(
            f"cell {number} of {_called(cell.function)}: parameter {name!r} is or holds {error}, which cannot be "
            "hashed: give numbers, texts, paths, tensors, dataclasses, or lists and mappings of them, and models as "
            "Pretrained(name)"
        ) from error


def _called(function: Any) -> str:
    return typing.cast(str, shown(function)) if not hasattr(function, "__qualname__") else named(function)
