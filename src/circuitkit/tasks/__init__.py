"""Tasks: prompts, gold answers and judges, one module or folder a task."""

from circuitkit.tasks import (
    aime,
    amc,
    competitions,
    csqa,
    deductions,
    exemplars,
    greater_than,
    gsm8k,
    indirect_objects,
    induction,
    math500,
    prontoqa,
)
from circuitkit.tasks.loading import load, names
from circuitkit.tasks.task import Item, Judge, Judgement, Task, TaskError

__all__ = [
    "Item",
    "Judge",
    "Judgement",
    "Task",
    "TaskError",
    "aime",
    "amc",
    "competitions",
    "csqa",
    "deductions",
    "exemplars",
    "greater_than",
    "gsm8k",
    "indirect_objects",
    "induction",
    "load",
    "math500",
    "names",
    "prontoqa",
]
