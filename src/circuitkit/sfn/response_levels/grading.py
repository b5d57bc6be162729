"""The levels of a model's responses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tqdm import tqdm

from circuitkit.evaluation import Evaluation
from circuitkit.records import provenance
from circuitkit.sfn.response_levels.answers import Judge, answers_of
from circuitkit.sfn.response_levels.calibration import Calibration, calibrate
from circuitkit.sfn.response_levels.criterion import level_of
from circuitkit.sfn.response_levels.errors import LevelError
from circuitkit.sfn.response_levels.evidence import NAN, measure, readings
from circuitkit.sfn.response_levels.grammar import well_formed
from circuitkit.sfn.response_levels.likelihood import Reference
from circuitkit.sfn.response_levels.outcome import Graded, Levels

if TYPE_CHECKING:
    from circuitkit.model import Model


def levels(
    answers: Evaluation | Sequence[tuple[str, str]],
    reference: Model,
    *,
    judge: Judge | None = None,
    others: Sequence[str] = (),
    calibration: Calibration | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Levels:
    """Tell each response's level: I nonsense, II off the task, III on the task and not right, IV right.

    Args:
        answers: an evaluation, or pairs of prompt and response; without a judge, pairs are of level III at most.
        reference: an intact model that can do the task; it reads text with its own tokenizer.
        judge: which of the evaluation's judges says what is right (the headline's, if None); of pairs, a function of
            prompt and response.
        others: further questions of the same kind, needed where all responses answer one.
        calibration: borders found before (`Levels.calibration`), so that several evaluations are held to the same.
        seed: of the questions that are drawn as others, and of the reference's own answers.
        progress: show a bar.

    Raises:
        LevelError: there are no responses, one has no question, the reference has no tokenizer or is not intact, or it
            is no reference for these prompts.

    Source: the levels of Shao & Wu 2025, arXiv 2505.20993; the criterion is measured in docs/levels.md.

    >>> from circuitkit.tasks import prontoqa
    >>> task = prontoqa.task("implication_elimination", hops=2, shots=0, n=8)
    >>> found = ck.evaluate(ck.load("deductor-130k"), task, progress=False)
    >>> ck.sfn.levels(found, ck.load("deductor-130k"), progress=False).frame["level"].iloc[0]
    'IV'
    """
    read = answers_of(answers, judge)
    scorer = Reference(reference)
    if calibration is not None and calibration.reference != reference.name:
        raise LevelError(f"the calibration is of {calibration.reference}, and the reference is {reference.name}")
    asked = readings(read, others, seed)
    borders = calibration or calibrate(scorer, read, others, seed, progress)
    n_rows = sum(1 + len(each.others) for each in asked)
    with tqdm(total=n_rows, desc="levels", unit="row", disable=not progress, delay=1.0) as bar:
        found = measure(scorer, asked, frozenset(borders.common), bar.update)
    known, arguing = frozenset(borders.frames), frozenset(borders.arguing)
    shares = [well_formed(each.text, each.ended, known, arguing) for each in read]
    found = [
        replace(each, well_formed=NAN if share is None else share) for each, share in zip(found, shares, strict=True)
    ]
    graded = [
        Graded(answer, evidence, *level_of(answer, evidence, borders), on_task=borders.on_task(evidence))
        for answer, evidence in zip(read, found, strict=True)
    ]
    whose, task = (answers.model, answers.task) if isinstance(answers, Evaluation) else ("", "")
    told = provenance(
        model_name=reference.name,
        revision=reference.revision,
        data=[[each.prompt, each.text] for each in read],
        seed=seed,
        judge=_name(answers, judge),
        task=task,
    )
    return Levels(whose, tuple(graded), borders, told)


def _name(answers: Evaluation | Sequence[tuple[str, str]], judge: Judge | None) -> str:
    if isinstance(judge, str) or judge is None:
        return judge or (answers.judges[0] if isinstance(answers, Evaluation) else "")
    return getattr(judge, "__qualname__", repr(judge))
