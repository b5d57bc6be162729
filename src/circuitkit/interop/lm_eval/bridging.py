"""circuitkit's tasks as lm-eval's: the same prompts, stop texts and judges, the judges being the metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from circuitkit.tasks.loading import load
from circuitkit.tasks.task import Item, Judge, Task

UNPARSEABLE = "unparseable"
"""The metric that counts responses out of which the headline's judge can read no answer."""


def as_harness_task(task: Task | str | Path, shots: int | None = None) -> dict[str, Any]:
    """A task of `circuitkit.tasks` as lm-eval's `simple_evaluate` takes tasks, and `evaluate` too.

    Every judge is a metric, that of the headline first, beside the share of unparseable responses. Decoding is greedy,
    unless `gen_kwargs` say otherwise.

    Args:
        task: the task, or a name that `circuitkit.tasks.load` takes.
        shots: exemplars before each question; as many as the task wants, if None.

    Raises:
        TaskError: there is no such task, or it has fewer exemplars.

    >>> from circuitkit.tasks import prontoqa
    >>> told = as_harness_task(prontoqa.task("AndElim", shots=0, n=2))
    >>> told["task"], [each["metric"] for each in told["metric_list"]]
    ('prontoqa_conjunction_elimination_1', ['headline', 'strict', 'sound', 'unparseable'])
    """
    task = task if isinstance(task, Task) else load(str(task))
    items = {item.key: item for item in task.items}
    documents = documents_of(task, shots)
    return {
        # lm-eval writes files by this name.
        "task": task.name.replace("/", "_").replace(" ", "_"),
        "custom_dataset": splits_of(documents, ("test",)),
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "prompt",
        "doc_to_target": "gold",
        "process_results": judged_by(task.judges, lambda document: items[document["key"]]),
        "metric_list": metrics_of(task.judges),
        "generation_kwargs": {
            "until": list(task.stop),
            "do_sample": False,
            "temperature": 0.0,
            "max_gen_toks": task.max_new_tokens,
        },
        "num_fewshot": 0,
        "repeats": 1,
        "metadata": {"version": 1.0},
    }


def documents_of(task: Task, shots: int | None) -> list[dict[str, str]]:
    """A task's items as lm-eval's documents: key, question, gold and prompt."""
    return [
        {"key": item.key, "question": item.question, "gold": item.gold, "prompt": task.prompt(item, shots)}
        for item in task.items
    ]


def splits_of(documents: Sequence[Mapping[str, Any]], splits: Sequence[str]) -> Callable[..., dict[str, Any]]:
    """A function that gives lm-eval some documents as each of some splits."""

    def splits_of_documents(**_: Any) -> dict[str, Any]:
        from datasets import Dataset

        whole = Dataset.from_list([dict(document) for document in documents])
        return dict.fromkeys(splits, whole)

    return splits_of_documents


def judged_by(
    judges: Mapping[str, Judge], item_of: Callable[[Mapping[str, Any]], Item]
) -> Callable[[Mapping[str, Any], Sequence[str]], dict[str, int]]:
    """What lm-eval asks for each document's metrics: what judges say of its response."""

    def judged(document: Mapping[str, Any], responses: Sequence[str]) -> dict[str, int]:
        item = item_of(document)
        found = {name: judge(item, responses[0]) for name, judge in judges.items()}
        headline = next(iter(found.values()))
        correct = {name: int(each.correct) for name, each in found.items()}
        return {**correct, UNPARSEABLE: int(headline.said is None)}

    return judged


def metrics_of(judges: Mapping[str, Judge]) -> list[dict[str, Any]]:
    """The metrics of judges, as a task's configuration lists them."""
    names = {**dict.fromkeys(judges, True), UNPARSEABLE: False}
    return [{"metric": name, "aggregation": "mean", "higher_is_better": better} for name, better in names.items()]
