"""The level of a response, from what was measured and judged."""

from __future__ import annotations

import re
from typing import Literal

from circuitkit.sfn.response_levels.answers import Answer
from circuitkit.sfn.response_levels.calibration import BROKEN_AT, OFF_TASK_AT, Calibration
from circuitkit.sfn.response_levels.evidence import Evidence

Level = Literal["I", "II", "III", "IV"]
LEVELS: tuple[Level, ...] = ("I", "II", "III", "IV")
"""From nonsense to right."""
MEANINGS = ("nonsense", "off the task", "on the task, not right", "right")


def level_of(answer: Answer, found: Evidence, calibration: Calibration) -> tuple[Level, str]:
    """A response's level, and why.

    Source: Shao & Wu 2025, arXiv 2505.20993, whose levels were told by hand.
    """
    if (nonsense := _nonsense(answer, found, calibration)) is not None:
        return "I", nonsense
    by_sentences = calibration.keeps_to_questions and found.sentences == found.sentences
    if answer.right and not (by_sentences and not calibration.on_task(found) > OFF_TASK_AT):
        return "IV", "the judge finds it right"
    if found.overlap != found.overlap and answer.said:
        return "III", "a bare answer that the judge can read, and not right"
    on_task = calibration.on_task(found)
    told = f"{on_task:.2f} of the way from an answer to another question to one to its own"
    if not on_task > OFF_TASK_AT:
        return "II", told
    return "III", f"{told}, and not right" if answer.right is not None else f"{told}; nobody judged it"


def _nonsense(answer: Answer, found: Evidence, calibration: Calibration) -> str | None:
    if not re.search(r"\w", answer.text):
        return "there is no word in it"
    if found.repeated >= calibration.most_repeated:
        return f"{100 * found.repeated:.0f} % of it says again what it has said"
    if calibration.tells_sentences and found.well_formed == found.well_formed:
        told = f"{100 * found.well_formed:.0f} % of its words stand in well-formed sentences"
        return told if found.well_formed <= BROKEN_AT else None
    if found.fluency < calibration.least_fluency:
        return f"fluency {found.fluency:.2f}, below {calibration.least_fluency:.2f}"
    return None
