"""Answers to be read: what each of a study's models writes on the same few questions, whole, with every verdict.

A study's tables keep verdicts alone. `circuitkit report FOLDER` shows these answers side by side, step by step.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

import circuitkit as ck
from circuitkit.tasks.task import Task

FOLDER = "read"
EACH = 4
"""Questions of each kind."""
MOST = 12
"""Questions, where all are of one kind."""


def keep(models: Mapping[str, str], task: Task, out: Path, *, each: int = EACH, **settings: Any) -> None:
    """Let models answer the first questions of each kind, and keep what they write in `out`, a folder a model.

    Tables are of all questions and do not hang on these. Run again, what is there is not asked again.

    Args:
        models: by the name that folders get, what `ck.load` takes.
        task: the study's questions.
        out: the study's folder.
        each: questions of each kind (of the same groups).
        settings: of `ck.evaluate`.
    """
    few = first_of_each(task, each)
    for name, model in tqdm(models.items(), desc="answers to read", delay=2.0):
        folder = out / FOLDER / re.sub(r"[^\w.-]+", "-", name).strip("-")
        if not (folder / "evaluation.json").exists():
            ck.evaluate(ck.load(model), few, out=folder, progress=False, **settings)


def first_of_each(task: Task, each: int) -> Task:
    """A task with the first questions of each kind alone.

    >>> task = ck.tasks.prontoqa.task(["ModusPonens", "AndIntro"], shots=0, n=5)
    >>> [item.groups["rule"][:11] for item in first_of_each(task, 1).items]
    ['implication', 'conjunction']
    """
    taken: Counter[tuple[str, ...]] = Counter()
    keys = []
    for item in task.items:
        kind = tuple(map(str, item.groups.values()))
        if taken[kind] < each:
            keys.append(item.key)
        taken[kind] += 1
    return task.only(keys)
