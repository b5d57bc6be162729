"""Where cells run: what every way of running them has, and the simplest, this very process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from circuitkit.studies.cells import Cell, NamedCell
from circuitkit.studies.outcomes import Outcome, run_cell

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

    def check(self, cells: Sequence[Cell]) -> None:
        """Anything runs here."""

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def run(self, claimed: Iterator[NamedCell]) -> Iterator[Ended]:
        """Run cells and yield them as they end."""
        for named in claimed:
            yield named, run_cell(named.cell.function, named.cell.parameters, named.seed)
