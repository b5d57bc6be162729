"""How a response fails: it goes round in circles, never ends, takes a wrong step, or never comes to a conclusion."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd

from circuitkit.circuits.errors import CircuitError
from circuitkit.sfn.response_levels.repetition import said_before
from circuitkit.tasks import prontoqa
from circuitkit.tasks.prontoqa.verdict import Verdict

if TYPE_CHECKING:
    from circuitkit.evaluation import Evaluation, Response
    from circuitkit.tasks.task import Item

Outcome = Literal["right", "loop", "over-long", "wrong step", "no conclusion"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
LOOPS_AT = 0.75
"""The share of a response's last half that says again what it has said, from which on it goes round in circles."""
_SHORTEST = 10
_WORD = re.compile(r"\w+|[^\w\s]")


class Steps(NamedTuple):
    """What is wrong with the steps of a response.

    Attributes:
        wrong: the number of the first wrong step, from 1; None where every step holds.
        concludes: whether one of them comes to a conclusion.
    """

    wrong: int | None
    concludes: bool


ReadSteps = Callable[["Item", str], Steps]
"""Reads the steps of what was answered to an item."""


def proof_steps(judge: str) -> ReadSteps:
    """Reads PrOntoQA proofs: wrong is a step that does not follow; by the stricter judges, one that skips another too.

    A conclusion is what was to be proved, resting on no assumption, however it was reached.

    >>> from circuitkit.tasks.task import Item
    >>> asked = Item("0", "Q: Every wumpus is loud. Fae is a wumpus. Prove: Fae is loud.\\nA:", "")
    >>> proof_steps("headline")(asked, " Fae is a wumpus. Fae is a dumpus.")
    Steps(wrong=2, concludes=False)
    """
    refused = {"invalid", "unparseable"} | ({"non-atomic", "skip"} if judge in ("strict", "sound") else set())

    def read(item: Item, response: str) -> Steps:
        verdict: Verdict = prontoqa.judge(item.question, response)
        wrong = next((at for at, step in enumerate(verdict.steps, 1) if step.verdict in refused), None)
        return Steps(wrong, any(step.concludes for step in verdict.steps))

    return read


def classify_failures(
    evaluation: Evaluation,
    *,
    judge: str | None = None,
    steps: ReadSteps | None = None,
    loops_at: float = LOOPS_AT,
) -> pd.DataFrame:
    """Tell how each response of an evaluation fails, a row a response, in the evaluation's order.

    `outcome` is the first of these that holds: "right", the judge accepts it; "loop", of its last half at least the
    share `loops_at` says again what it has said (runs of five words, or a shorter cycle four times); "over-long", it
    was broken off; "wrong step", one of its steps does not hold, or it concludes and is wrong; "no conclusion". The
    other columns: key, sample, seed; `wrong_at`, the number of the first wrong step of what is not right (NaN without
    one); `repeated`, the share that "loop" goes by; truncated; n_tokens.

    Args:
        evaluation: responses and their judgements.
        judge: which verdict counts; the evaluation's first if None.
        steps: reads the steps of a response; those of PrOntoQA proofs if None. What other tasks answer has no steps: it
            concludes where the judge can read an answer.
        loops_at: from 0 to 1.

    Raises:
        CircuitError: there is no such judge, or `loops_at` is no share.

    >>> task = ck.tasks.prontoqa.task("implication_elimination", shots=0, n=3)
    >>> found = classify_failures(ck.evaluate(ck.load("deductor-130k-base"), task, progress=False))
    >>> set(found["outcome"])
    {'loop'}
    """
    if not 0 < loops_at <= 1:
        raise CircuitError(f"loops_at is a share of a response over 0 and up to 1, not {loops_at}")
    name = judge or evaluation.judges[0]
    if name not in evaluation.judges:
        raise CircuitError(f"{evaluation.task} has no judge {judge!r}; it has {', '.join(evaluation.judges)}")
    items = {item.key: item for item in evaluation.items}
    read = steps or (proof_steps(name) if _of_proofs(evaluation) else None)
    return pd.DataFrame([_told(each, items[each.key], name, read, loops_at) for each in evaluation.responses])


def _of_proofs(evaluation: Evaluation) -> bool:
    return evaluation.task.startswith("prontoqa/") and all("Prove:" in item.question for item in evaluation.items)


def _told(response: Response, item: Item, judge: str, read: ReadSteps | None, loops_at: float) -> dict[str, object]:
    judgement, repeated = response.judgements[judge], share_repeated(response.text)
    found = Steps(None, judgement.said is not None)
    if read is not None and not judgement.correct:
        found = read(item, response.judged)
    outcome: Outcome = "no conclusion"
    if judgement.correct:
        outcome = "right"
    elif repeated >= loops_at:
        outcome = "loop"
    elif response.truncated:
        outcome = "over-long"
    elif found.wrong is not None or found.concludes:
        outcome = "wrong step"
    return {
        "key": response.key,
        "sample": response.sample,
        "seed": response.seed,
        "outcome": outcome,
        "wrong_at": np.nan if found.wrong is None else float(found.wrong),
        "repeated": repeated,
        "truncated": response.truncated,
        "n_tokens": response.n_tokens,
    }


def share_repeated(text: str) -> float:
    """The share of the last half of a text, in words and marks, that says again what stands before; 0 of short texts.

    Words rather than tokens, so that models of different tokenizers are held to the same measure.

    >>> share_repeated("so it is " * 10), share_repeated("it is so")
    (1.0, 0.0)
    """
    words = _WORD.findall(text)
    if len(words) < _SHORTEST:
        return 0.0
    numbers: dict[str, int] = {}
    again = said_before([numbers.setdefault(word, len(numbers)) for word in words])
    return float(again[len(words) // 2 :].mean())
