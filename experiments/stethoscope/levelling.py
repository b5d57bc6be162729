"""The level of each answer, I to IV, as numbers."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import circuitkit as ck
from circuitkit.evaluation import Evaluation
from circuitkit.sfn import Calibration, Levels

NUMBERS = {"I": 1, "II": 2, "III": 3, "IV": 4}

Prompts = frozenset[str]

_borders: WeakKeyDictionary[ck.Model, dict[Prompts, Calibration]] = WeakKeyDictionary()
"""By reference and questions, where the borders between levels lie."""


def levels_of(found: Evaluation, reference: ck.Model) -> list[int]:
    """The level of every answer, in the order of the evaluation's table."""
    return [NUMBERS[level] for level in graded_by(found, reference).frame["level"]]


def graded_by(found: Evaluation, reference: ck.Model) -> Levels:
    """Every answer with its level and what tells it.

    Answers to the same questions are held to the same borders, whichever model they are of.

    Args:
        reference: an intact model that can do the task.
    """
    known = _borders.setdefault(reference, {})
    asked = frozenset(response.prompt for response in found.responses)
    levels = ck.sfn.levels(found, reference, calibration=known.get(asked), progress=False)
    known[asked] = levels.calibration
    return levels
