"""What each kind of result shows: makers of sections, by the kinds of files that they are called for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping

from circuitkit.report.contents import Contents
from circuitkit.report.section import Section

Maker = Callable[[Contents], Iterable[Section]]

MAKERS: Mapping[str, str] = {
    "threshold": "circuitkit.report.sections.sizes:thresholds",
    "table": "circuitkit.report.sections.sizes:elicited",
    "sweep": "circuitkit.report.sections.sweeps:sections",
    "training": "circuitkit.report.sections.trainings:sections",
    "result": "circuitkit.report.sections.maps:sections",
    **dict.fromkeys(
        (
            "head_changes",
            "graph",
            "head_cohorts",
            "curve",
            "faithfulness",
            "completeness",
            "minimality",
            "stability",
            "generation",
        ),
        "circuitkit.report.sections.circuits:sections",
    ),
    "attention": "circuitkit.report.sections.attention:sections",
    "delta": "circuitkit.report.sections.sfn:sections",
    **dict.fromkeys(("levels", "level_table"), "circuitkit.report.sections.levels:sections"),
    "evaluation": "circuitkit.report.sections.responses:sections",
}
"""By kind, in the page's order, `module:function`: called once for a folder that holds files of its kinds.

A maker tells the folder's contents what it has used; `figures` and `tables` show what is left.
"""

OF_ALL_PARTS = frozenset({"delta", "threshold", "evaluation", "training", "head_changes", "head_cohorts", "generation"})
"""Kinds whose makers see the folders in a folder too, since what lies there belongs together in one picture."""

_REST = (
    "circuitkit.report.sections.profiles:sections",
    "circuitkit.report.sections.figures:sections",
    "circuitkit.report.sections.tables:sections",
)


def made(contents: Contents) -> Iterator[Section]:
    """All sections of one folder, without those in it."""
    wanted = [function for kind, function in MAKERS.items() if _any(contents, kind)]
    for function in dict.fromkeys([*wanted, *_REST]):
        yield from _function(function)(contents)


def _any(contents: Contents, kind: str) -> bool:
    parts = contents.walk() if kind in OF_ALL_PARTS else (contents,)
    return any(part.of_kind(kind) for part in parts)


def _function(named: str) -> Maker:
    module, _, name = named.partition(":")
    function: Maker = getattr(importlib.import_module(module), name)
    return function
