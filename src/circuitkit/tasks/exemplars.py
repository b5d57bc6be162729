"""How many exemplars a model's context holds beside the question and the answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from circuitkit.tasks.task import Task, TaskError

if TYPE_CHECKING:
    from circuitkit.model.model import Model

Lengths = Callable[[Sequence[str]], Sequence[int]]
_Counts = Int[np.ndarray, " item"]


def that_fit(
    task: Task,
    tokenizer: Any,
    context: int | None,
    max_new_tokens: int | None = None,
    *,
    lengths: Lengths | None = None,
) -> int:
    """The most exemplars, of those that the task wants, with which every question fits the context.

    The count is exact, of whole prompts: tokens that merge where two texts meet are counted as they merge. Each text
    is tokenized once for an estimate, and then the prompts that the estimate leads to.

    Args:
        task: its `shots` are the most that are given.
        tokenizer: the model's.
        context: tokens that the model holds; None where it sets no limit.
        max_new_tokens: room for the answer; the task's if None.
        lengths: how many tokens prompts have, where that is not simply what the tokenizer makes of the text, as with
            a chat template.

    Raises:
        TaskError: a question does not fit even without exemplars; it is named, with the count.

    >>> tokenizer = ck.load("deductor-130k").tokenizer
    >>> from circuitkit.tasks.task import Item, Judgement
    >>> shown, item = ("Q: wumpus A: dumpus",) * 4, Item("0", "Q: wumpus A:", "dumpus")
    >>> task = Task("toy", (item,), {"any": lambda item, said: Judgement(True, said)}, shown, shots=4)
    >>> that_fit(task, tokenizer, context=24, max_new_tokens=4)
    3
    """
    if context is None:
        return task.shots
    count = lengths or (lambda texts: [len(ids) for ids in tokenizer(list(texts))["input_ids"]])
    new_tokens = task.max_new_tokens if max_new_tokens is None else max_new_tokens
    room = context - new_tokens
    estimates = _estimates(task, count)
    shots = next((k for k in range(task.shots, 0, -1) if estimates[k].max() <= room), 0)
    if _all_fit(task, shots, estimates, count, room):
        while shots < task.shots and _all_fit(task, shots + 1, estimates, count, room):
            shots += 1
        return shots
    while shots > 0:
        shots -= 1
        if _all_fit(task, shots, estimates, count, room):
            return shots
    raise _too_long(task, count, context, new_tokens)


def equal_shots(task: Task, models: Iterable[Model], max_new_tokens: int | None = None) -> int:
    """The most exemplars that fit the context of every model, so that all are asked with as many.

    Models are asked for one at a time, so that a generator of models needs no more memory than the largest.

    Raises:
        TaskError: a question does not fit a model's context even without exemplars; there are no models, or one has
            no tokenizer.

    >>> from circuitkit.tasks.task import Item, Judgement
    >>> shown, item = ("Q: wumpus A: dumpus",), Item("0", "Q: wumpus A:", "dumpus")
    >>> task = Task("toy", (item,), {"any": lambda item, said: Judgement(True, said)}, shown, shots=1)
    >>> equal_shots(task, [ck.load("deductor-5k"), ck.load("deductor-130k")])
    1
    """
    fitting = []
    for model in models:
        if model.tokenizer is None:
            raise TaskError(f"{model.name} has no tokenizer, so a prompt's tokens cannot be counted: load it with one")
        try:
            fitting.append(that_fit(task, model.tokenizer, model.context, max_new_tokens))
        except TaskError as error:
            raise TaskError(f"{model.name}: {error}") from error
    if not fitting:
        raise TaskError("an equal number of exemplars is one of several models: give at least one")
    return min(fitting)


def _estimates(task: Task, count: Lengths) -> list[_Counts]:
    """Tokens of each item's prompt with 0, 1, … exemplars, as if texts were tokenized apart."""
    texts = list(dict.fromkeys(text for item in task.items for text in _parts(task, task.shots, item)))
    # What a prompt begins and ends with, such as a first token or a chat template, is counted once.
    shortest = min(texts, key=len)
    once, twice = count([shortest, shortest + shortest])
    begun = 2 * int(once) - int(twice)
    alone = dict(zip(texts, (int(tokens) - begun for tokens in count(texts)), strict=True))
    parts = np.array([[alone[text] for text in _parts(task, task.shots, item)] for item in task.items])
    questions, shown = parts[:, -1:], np.cumsum(parts[:, :-1], axis=1)
    return list(np.concatenate([questions, questions + shown], axis=1).T + begun)


def _parts(task: Task, shots: int, item: Any) -> tuple[str, ...]:
    return (*task.exemplars_of(item)[:shots], item.question)


def _all_fit(task: Task, shots: int, estimates: Sequence[_Counts], count: Lengths, room: int) -> bool:
    # The longest first, in growing portions: where one is too long, it is soon found.
    order = np.argsort(-estimates[shots], kind="stable")
    done, portion = 0, 8
    while done < len(order):
        prompts = [task.prompt(task.items[number], shots) for number in order[done : done + portion]]
        if max(count(prompts)) > room:
            return False
        done, portion = done + portion, portion * 4
    return True


def _too_long(task: Task, count: Lengths, context: int, new_tokens: int) -> TaskError:
    tokens = count([task.prompt(item, 0) for item in task.items])
    worst = int(np.argmax(tokens))
    return TaskError(
        f"{task.name}: question {task.items[worst].key!r} has {tokens[worst]} tokens without any exemplar, and the "
        f"context of {context} leaves {max(context - new_tokens, 0)} beside an answer of up to {new_tokens}: it is "
        f"{tokens[worst] - (context - new_tokens)} too long. Give fewer max_new_tokens, leave the question out, or use "
        "a model with a longer context"
    )
