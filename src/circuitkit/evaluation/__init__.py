"""Evaluation: a model answers the questions of a task, under any interventions, and its answers are judged.

Every response is kept with its prompt, shares come with intervals, and a run that is cut short goes on where it was.
"""

from circuitkit.evaluation.comparison import Comparison, compare
from circuitkit.evaluation.decoding import Decoding
from circuitkit.evaluation.errors import EvaluationError
from circuitkit.evaluation.outcome import Evaluation, OverSeeds, Share
from circuitkit.evaluation.responses import Response
from circuitkit.evaluation.running import evaluate

__all__ = [
    "Comparison",
    "Decoding",
    "Evaluation",
    "EvaluationError",
    "OverSeeds",
    "Response",
    "Share",
    "compare",
    "evaluate",
]
