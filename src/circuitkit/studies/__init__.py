"""Studies that survive: sweeps over cells, kept as they end, on one machine or many.

`cells` says what is asked for and `identity` names it, `folder` keeps what ended, `claims` settle who runs what,
backends run, and `running` drives them; `table` reads it all back.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from circuitkit.studies.backends import Backend, InProcess
from circuitkit.studies.cells import Cell, NamedCell, grid
from circuitkit.studies.errors import SweepError, SweepStoppedError
from circuitkit.studies.outcomes import Outcome, run_cell
from circuitkit.studies.pretrained import Pretrained
from circuitkit.studies.records import Failure, Record
from circuitkit.studies.running import sweep
from circuitkit.studies.table import Sweep
from circuitkit.studies.workers import Processes

if TYPE_CHECKING:
    from circuitkit.studies.cluster import Needs
    from circuitkit.studies.ray import OnRay

__all__ = [
    "Backend",
    "Cell",
    "Failure",
    "InProcess",
    "NamedCell",
    "Needs",
    "OnRay",
    "Outcome",
    "Pretrained",
    "Processes",
    "Record",
    "Sweep",
    "SweepError",
    "SweepStoppedError",
    "grid",
    "run_cell",
    "sweep",
]

_ON_A_CLUSTER = {"Needs": "cluster", "OnRay": "ray"}


def __getattr__(name: str) -> Any:
    if name not in _ON_A_CLUSTER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_ON_A_CLUSTER[name]}"), name)
