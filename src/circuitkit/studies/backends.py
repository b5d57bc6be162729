"""Where cells run: what every way of running them has, and the simplest, this very process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from circuitkit.model import Model
from circuitkit.studies.cells import Cell, NamedCell
from circuitkit.studies.outcomes import Outcome, run_cell
from circuitkit.studies.pretrained import state

Ended = tuple[NamedCell, Outcome]


class Backend(Protocol):
    """A way of running cells.

    The driver claims cells and writes results; a backend only runs. `run` is called in rounds, within one `with` block.
    It takes cells from an iterator that claims each as it is taken, so it takes one only where one can start (or is
    about to), and yields every cell that it took with its outcome, in any order, as soon as it has it. A process that
    dies is an outcome too (`Outcome.failed`), and costs its cell only. Leaving the `with` block stops what still runs.
    """

    def check(self, cells: Sequence[Cell]) -> None:
        """Raise SweepError where some cell cannot be run this way, before anything runs."""

    def __enter__(self) -> Any: ...

    def __exit__(self, *error: object) -> None: ...

    def run(self, claimed: Iterator[NamedCell]) -> Iterator[Ended]:
        """Run cells and yield them as they end."""
        ...


class InProcess:
    """Cells run one after another in this process.

    >>> from circuitkit.studies.cells import name_cells
    >>> cells = name_cells([(pow, {"base": 2, "exp": 3})])
    >>> [outcome.columns for cell, outcome in InProcess().run(iter(cells))]
    [{'value': 8}]
    """

    def __init__(self) -> None:
        self._given: dict[int, tuple[Model, tuple[str | None, str | None]]] = {}

    def check(self, cells: Sequence[Cell]) -> None:
        """Anything runs here."""

    def __enter__(self) -> InProcess:
        self._given = {}
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def run(self, claimed: Iterator[NamedCell]) -> Iterator[Ended]:
        """Run cells and yield them as they end."""
        for named in claimed:
            changed = [name for name, value in named.cell.parameters.items() if self._is_changed(value)]
            if changed:
                told = f"an earlier cell changed the model {changed[0]!r}, which all cells share: give Pretrained(name)"
                yield named, Outcome.failed(told)
            else:
                yield named, run_cell(named.cell.function, named.cell.parameters, named.seed)

    def _is_changed(self, value: Any) -> bool:
        """Whether a loaded model is another one than at the first cell."""
        if not isinstance(value, Model):
            return False
        now = state(value)
        _, first = self._given.setdefault(id(value), (value, now))
        return first != now
