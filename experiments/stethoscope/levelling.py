"""The level of each answer, I to IV, as numbers."""

from __future__ import annotations

import circuitkit as ck
from circuitkit.evaluation import Evaluation

NUMBERS = {"I": 1, "II": 2, "III": 3, "IV": 4}


def levels_of(found: Evaluation, reference: ck.Model) -> list[int]:
    """The level of every answer, in the order of the evaluation's table; the reference is an intact model."""
    return [NUMBERS[level] for level in ck.sfn.levels(found, reference, progress=False).frame["level"]]
