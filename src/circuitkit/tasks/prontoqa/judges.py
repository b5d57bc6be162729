"""The judges of a task of proofs: each says one of the three things that a verdict holds."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType

from circuitkit.tasks.prontoqa.verdict import Verdict, judge
from circuitkit.tasks.task import Item, Judge, Judgement

# All judges of a response are asked one after another, and the proof is to be judged once.
_verdict = lru_cache(maxsize=64)(judge)


def _judge_of(accepted: Callable[[Verdict], bool]) -> Judge:
    def judged(item: Item, response: str) -> Judgement:
        verdict = _verdict(item.question, response)
        return Judgement(accepted(verdict), _said(verdict))

    return judged


def _said(verdict: Verdict) -> str | None:
    """The conclusion, or the last sentence that can be read where none is reached."""
    read = [step for step in verdict.steps if step.verdict != "unparseable"]
    reached = [step for step in read if step.concludes] or read[-1:]
    return reached[0].text if reached else None


PROOF_JUDGES: Mapping[str, Judge] = MappingProxyType(
    {
        "headline": _judge_of(lambda verdict: verdict.correct),
        "strict": _judge_of(lambda verdict: verdict.strict),
        "sound": _judge_of(lambda verdict: verdict.sound),
    }
)
"""The published headline measure, the published strict one, and whether natural deduction accepts the proof too."""


def _label(item: Item, response: str) -> Judgement:
    found = re.match(r"\s*(True|False)\b", response)
    return Judgement(found is not None and found[1] == item.gold, found[1] if found else None)


DECISION_JUDGES: Mapping[str, Judge] = MappingProxyType({"label": _label})
"""Whether the first word is the right one of "True" and "False"."""
