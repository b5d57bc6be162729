"""A sweep's cells: one table of parameters and what each returned, and how cells failed."""

from __future__ import annotations

from collections.abc import Iterator

from circuitkit.report import sentences
from circuitkit.report.contents import Contents
from circuitkit.report.section import Section
from circuitkit.report.sections.tables import thinned


def sections(contents: Contents) -> Iterator[Section]:
    """The table of all cells, and of those that failed."""
    for file in contents.of_kind("sweep"):
        found = file.value
        table, notes = thinned(found.frame, "'circuitkit sweep table --csv FILE'")
        yield Section(
            "cells",
            "Cells of the sweep",
            "A row a cell: its parameters, and what it returned.",
            table=table,
            notes=notes,
            says=sentences.of(found),
        )
        if len(failures := found.failures):
            table, notes = thinned(failures, "'circuitkit sweep failures'", 50)
            yield Section(
                "failures", "Cells that failed", "A row a failed cell, with its traceback.", table=table, notes=notes
            )
        contents.used(file.path)
