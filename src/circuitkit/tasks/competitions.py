"""What the tasks of competition mathematics have in common: a problem, an answer, and who reads it how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from circuitkit.tasks.answers import expressions, harness
from circuitkit.tasks.answers.judges import chosen
from circuitkit.tasks.sources import Row, Rows
from circuitkit.tasks.task import Item, Task, TaskError

BOXED = "{problem}\n\nPlease reason step by step, and put your final answer within \\boxed{}.\n\n"
_ENDS = ("</s>", "<|im_end|>", "<|eot_id|>")
# As the harness has it; the papers allow 8,192 to 32,768.
_MAX_NEW_TOKENS = 32_768


def competition(
    name: str,
    found: Rows,
    items: Sequence[Item],
    *,
    prompt: str,
    judges: Sequence[str] | None,
    numbers: bool,
) -> Task:
    """A task of problems without exemplars; "robust" is its headline, and "harness" stands beside it.

    Args:
        name: the task's.
        found: where the problems come from.
        items: the problems, without prompts.
        prompt: what is asked, with {problem} in it.
        judges: those that are wanted.
        numbers: whether every answer is a number; the harness reads these as in AIME, others as in MATH.

    Raises:
        TaskError: the prompt has no {problem}; a judge is unknown or cannot be had.
    """
    if "{problem}" not in prompt:
        raise TaskError(f"{name}: the prompt {prompt!r} has no {{problem}} in it, where the problem is to stand")
    robust = expressions.number if numbers else expressions.expression
    strings = harness.aime if numbers else harness.math
    label = prompt.partition("{problem}")[0].strip()
    return Task(
        name,
        tuple(replace(each, question=prompt.replace("{problem}", each.question)) for each in items),
        chosen(name, {"robust": robust, "harness": lambda: strings}, judges),
        max_new_tokens=_MAX_NEW_TOKENS,
        # A model that goes on to ask itself another question has answered this one.
        stop=(label, *_ENDS) if label.endswith(":") else _ENDS,
        source=found.source,
    )


def problem(name: str, row: Row, key: str, fields: Sequence[str], groups: Mapping[str, Any]) -> Item:
    """A problem of a data set, its text and its answer in the first of some fields that it has.

    Raises:
        TaskError: it has no text, or no answer.
    """
    text = next((row[field] for field in fields if field in row), None)
    if not text:
        raise TaskError(f"{row.place}: there is no field {' or '.join(fields)}; it has {', '.join(row.values)}")
    gold = next((row[field] for field in ("answer", "Answer") if field in row), None)
    if gold is None or not str(gold).strip():
        raise TaskError(f"{name}: question {key!r} has no answer key ({row.place})")
    return Item(key, str(text), _plain(gold), groups=groups)


def _plain(gold: Any) -> str:
    # Some data sets hold whole numbers as 27.0.
    text = str(gold).strip()
    return text.removesuffix(".0") if text.removesuffix(".0").removeprefix("-").isdigit() else text
