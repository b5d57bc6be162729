"""Distillation by whole responses: a teacher's right answers, as examples to learn from.

Source: Kim & Rush 2016 (arXiv 1606.07947), with those that the judge finds wrong left out.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuitkit.evaluation import evaluate
from circuitkit.tasks.task import Task
from circuitkit.training.errors import TrainingError
from circuitkit.training.examples import Example

if TYPE_CHECKING:
    from circuitkit.model import Model

_FEW = 0.5


def taught(
    teacher: Model, task: Task, *, judge: str | None = None, out: str | Path | None = None, **settings: Any
) -> tuple[Example, ...]:
    """Let a teacher answer a task, and keep what the judge finds right, as examples for `ck.train`.

    An example's question is the whole prompt, so that `template="{question}{chain}"` gives a student exactly what the
    teacher read and wrote. The teacher may have another vocabulary. Of equal responses to equal prompts one
    is kept. Questions that the teacher answers wrong are missing: what is left is easier than the task.

    Args:
        teacher: who answers.
        task: what.
        judge: of the task; that of the headline if None.
        out: a folder that keeps all responses; the same call goes on there.
        settings: of `ck.evaluate`, such as `decoding`, `samples`, `shots`.

    Warns:
        UserWarning: under half of the questions are left.

    Raises:
        TrainingError: there is no such judge, or it finds no response right.

    >>> from circuitkit.tasks import prontoqa
    >>> task = prontoqa.task("implication_elimination", shots=0, n=4)
    >>> examples = taught(ck.load("deductor-130k"), task, progress=False)
    >>> len(examples), examples[0].chain == " " + task.items[0].gold
    (4, True)
    """
    if judge is not None and judge not in task.judges:
        raise TrainingError(f"{task.name} has no judge {judge!r}; it has {', '.join(task.judges)}")
    found = evaluate(teacher, task, out=out, **settings)
    name = judge or found.judges[0]
    right = [each for each in found.responses if each.judgements[name].correct and each.text.strip()]
    answered = len({response.key for response in right})
    if not right:
        raise TrainingError(
            f"{teacher.name} answers none of {len(found.items)} questions of {task.name} right, as {name!r} judges: "
            "give another teacher, or easier questions"
        )
    if answered < _FEW * len(found.items):
        warnings.warn(
            f"{teacher.name} answers {answered} of {len(found.items)} questions of {task.name} right, and the others "
            "are missing from the examples: they are easier than the task",
            stacklevel=2,
        )
    first: dict[tuple[str, str], Example] = {}
    for each in right:
        first.setdefault((each.prompt, each.text), Example(each.prompt, each.text, key=each.key))
    return tuple(first.values())
