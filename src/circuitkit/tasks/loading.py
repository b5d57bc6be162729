"""Tasks by name, or by the file that says what they are."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

from circuitkit.tasks.task import Task, TaskError

_MODULES: dict[str, tuple[str, dict[str, Any]]] = {
    "csqa": ("csqa", {}),
    "gsm8k": ("gsm8k", {}),
    "aime": ("aime", {}),
    "aime24": ("aime", {"years": (2024,)}),
    "aime25": ("aime", {"years": (2025,)}),
    "amc": ("amc", {}),
    "math500": ("math500", {}),
}


def names() -> tuple[str, ...]:
    """The tasks that there are by name; PrOntoQA's by rule and number of hops.

    >>> "csqa" in names()
    True
    """
    from circuitkit.tasks import prontoqa

    hops = {rule: "1" if rule in prontoqa.ONE_HOP_RULES else "1 to 5" for rule in prontoqa.RULES}
    return (*_MODULES, *(f"prontoqa/{rule}/HOPS (HOPS: {many})" for rule, many in hops.items()))


def load(name: str | Path, **options: Any) -> Task:
    """A task by its name, or by the path of a task file, `.toml` or `.py`, or of a set in a file of proofs' prompts.

    Args:
        name: one of `names()`, or a path; of a file of prompts, with the set's key: `prompts.json:OrElim/8shot`.
        options: what the task's own function takes, such as `data`, `exemplars`, `shots` or `judges`.

    Raises:
        TaskError: there is no such task, its data cannot be had, or its file is not in order.

    >>> len(load("prontoqa/conjunction_elimination/2", n=3).items)
    3
    """
    text = str(name)
    if text in _MODULES:
        module, settings = _MODULES[text]
        function = importlib.import_module(f"circuitkit.tasks.{module}").task
        if unknown := [option for option in options if option not in inspect.signature(function).parameters]:
            known = [option for option in inspect.signature(function).parameters if option not in settings]
            raise TaskError(f"{text} has no option {unknown[0]!r}; it has {', '.join(known)}")
        made: Task = function(**settings, **options)
        return made
    if text.split("/")[0] == "prontoqa":
        return _prontoqa(text, options)
    if ".json:" in text:
        return _prompt_file(text, options)
    if Path(text).suffix in (".toml", ".py"):
        from circuitkit.tasks import task_file

        return task_file.read(Path(text), options)
    raise TaskError(
        f"there is no task {text!r}; there are {', '.join(names())}, or the path of a .toml or .py file, "
        "or prompts.json:RULE/SHOTSshot for a file of prompts"
    )


def _prompt_file(name: str, options: dict[str, Any]) -> Task:
    from circuitkit.tasks import prontoqa

    path, _, key = name.partition(".json:")
    if options:
        raise TaskError(f"{name} is asked as it is, and has no option {next(iter(options))!r}")
    return prontoqa.prompt_file(f"{path}.json", key)


def _prontoqa(name: str, options: dict[str, Any]) -> Task:
    from circuitkit.tasks import prontoqa
    from circuitkit.tasks.prontoqa.shapes import ALIASES

    rule, _, hops = name.removeprefix("prontoqa").removeprefix("/").partition("/")
    hops = hops or "1"
    if rule not in {*prontoqa.RULES, *ALIASES} or not hops.isdecimal():
        raise TaskError(
            f"there is no task {name!r}: write prontoqa/RULE/HOPS, with HOPS 1 or more and RULE one of "
            f"{', '.join(prontoqa.RULES)}"
        )
    try:
        return prontoqa.task(rule, hops=int(hops), **options)
    except ValueError as error:
        raise TaskError(f"{name}: {error}") from error
