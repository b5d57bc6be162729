"""Running a model under interventions: what to change, what is kept, and the passes between."""

from circuitkit.run.cache import Cache, CacheError
from circuitkit.run.clean_runs import CleanRuns, CleanRunsError
from circuitkit.run.interventions import (
    During,
    Intervention,
    InterventionError,
    Interventions,
    add,
    knockout,
    mean,
    replace,
    scale,
    zero,
)
from circuitkit.run.run import Run, run
from circuitkit.run.session import Session

__all__ = [
    "Cache",
    "CacheError",
    "CleanRuns",
    "CleanRunsError",
    "During",
    "Intervention",
    "InterventionError",
    "Interventions",
    "Run",
    "Session",
    "add",
    "knockout",
    "mean",
    "replace",
    "run",
    "scale",
    "zero",
]
