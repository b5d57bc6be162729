"""Thresholds: accuracy against the number of parameters, with a breakpoint and without.

`find` takes a table of models and answers: is there a threshold, where, how sure. `curves` are fitted by `fitting`,
held against each other in `alternatives` (tests) and `prediction` (models left out), placed by `location`, and looked
at family by family in `families`; `chance` tells models that fail.
"""

from circuitkit.thresholds.alternatives import against_smooth
from circuitkit.thresholds.chance import judge_models
from circuitkit.thresholds.curves import CURVES, Curve
from circuitkit.thresholds.errors import ThresholdError
from circuitkit.thresholds.finding import Threshold, Verdict
from circuitkit.thresholds.location import Location
from circuitkit.thresholds.models import Models
from circuitkit.thresholds.search import find
from circuitkit.thresholds.tables import rows_of

__all__ = [
    "CURVES",
    "Curve",
    "Location",
    "Models",
    "Threshold",
    "ThresholdError",
    "Verdict",
    "against_smooth",
    "find",
    "judge_models",
    "rows_of",
]
