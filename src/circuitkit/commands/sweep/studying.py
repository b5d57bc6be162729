"""The cell of a described sweep: a study of circuitkit on prompts that are drawn or read for its model."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuitkit.commands.prompts import Task, pairs_in, pairs_of

if TYPE_CHECKING:
    from circuitkit.model import Model
    from circuitkit.results import Result

DRAWN = {"pairs", "prompt", "task", "n", "template", "seed"}


def drawn_study(
    study: Callable[..., Result],
    model: Model,
    *,
    pairs: Path | None = None,
    prompt: list[str] | None = None,
    task: Task | None = None,
    n: int = 48,
    template: int | None = None,
    seed: int = 0,
    **settings: Any,
) -> Result:
    """A study on pairs from a file, on prompts, or on pairs that are drawn by the seed.

    Raises:
        ValueError: prompts are named in two ways, or none can be drawn for the model.

    >>> result = drawn_study(ck.ablation.sweep, ck.load("deductor-5k"), n=4)
    >>> result.axes
    ('layer', 'head')
    """
    if sum(each is not None for each in (pairs, prompt, task)) > 1:
        raise ValueError("prompts are named by one of pairs, prompt and task")
    read = prompt if prompt is not None else pairs_of(model, pairs_in(pairs), n, task, template)(seed)
    takes = inspect.signature(study).parameters
    known = {"seed": seed, "progress": False}
    return study(model, read, **{name: value for name, value in known.items() if name in takes}, **settings)
