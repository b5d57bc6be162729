"""What a model is trained on: a question with the chain of thought that is to follow it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import Any

from circuitkit.records import data_hash
from circuitkit.tasks.task import Task
from circuitkit.training.errors import TrainingError

FIELDS: Mapping[str, str] = MappingProxyType({"question": "question", "chain": "chain", "answer": "answer"})
"""What the parts of an example are called in a file, unless told otherwise."""


@dataclass(frozen=True)
class Example:
    """One question, and what is to be said of it.

    Attributes:
        question: what is asked.
        chain: the chain of thought, and all that is to be said where there is no answer apart from it.
        answer: what follows the chain, if it is kept apart.
        key: names it in messages.
    """

    question: str
    chain: str
    answer: str = ""
    key: str = ""


Data = Sequence[Example] | Sequence[Mapping[str, Any]] | Task | str | Path


def examples_of(data: Data, fields: Mapping[str, str] | None = None) -> tuple[Example, ...]:
    """Read examples from a file of JSON lines, a task with its gold answers, or a sequence.

    Args:
        data: a path of JSON lines; a task, whose prompts are questions and whose gold answers are chains; examples;
            or mappings.
        fields: what the parts are called in a file or mapping, such as `{"question": "prompt"}`.

    Raises:
        TrainingError: there is no such file or no example; a line is no JSON object, or a field is missing or empty;
            the file and the line's number are named.

    >>> examples_of([{"prompt": "1 + 1", "chain": "2"}], fields={"question": "prompt"})
    (Example(question='1 + 1', chain='2', answer='', key='example 1'),)
    """
    named = {**FIELDS, **(fields or {})}
    if unknown := named.keys() - FIELDS.keys():
        raise TrainingError(f"an example has no part {sorted(unknown)[0]!r}: name {', '.join(FIELDS)}")
    if isinstance(data, Task):
        found = tuple(Example(data.prompt(item), item.gold, key=item.key) for item in data.items)
    elif isinstance(data, str | Path):
        found = tuple(_read(Path(data), named, needs_answer="answer" in (fields or {})))
    else:
        found = tuple(
            each if isinstance(each, Example) else _example(each, named, f"example {number}", bool(fields))
            for number, each in enumerate(data, 1)
        )
    for number, example in enumerate(found, 1):
        if not (example.question.strip() and example.chain.strip()):
            empty = "question" if not example.question.strip() else "chain"
            raise TrainingError(f"{example.key or f'example {number}'}: the {empty} is empty")
    if not found:
        raise TrainingError("there is no example to train on" + (f" in {data}" if isinstance(data, str | Path) else ""))
    return found


def hash_of(examples: Sequence[Example]) -> str:
    """The sha256 of examples in their order; their keys don't count.

    >>> hash_of([Example("a", "b")]) == hash_of([Example("a", "b", key="1")])
    True
    """
    return data_hash([[example.question, example.chain, example.answer] for example in examples])


def digest(examples: Sequence[Example]) -> str:
    """The sha256 of examples' contents, whatever their order; that which `nested_subsets` gives.

    >>> pair = [Example("a", "b"), Example("c", "d")]
    >>> digest(pair) == digest(pair[::-1])
    True
    """
    lines = sorted(json.dumps(asdict(example), sort_keys=True) for example in examples)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def counted(training: Sequence[Example], validation: Sequence[Example] = ()) -> dict[str, Any]:
    """How many examples there are and what `digest` says of them, of a validation set too, if there is one.

    >>> sorted(counted([Example("a", "b")], [Example("c", "d")]))
    ['n', 'sha256', 'validation']
    """
    told: dict[str, Any] = {"n": len(training), "sha256": digest(training)}
    return {**told, "validation": counted(validation)} if validation else told


def divided(examples: Sequence[Example], share: float, seed: int) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Examples shuffled and cut in two: those to train on, and a share to validate on, rounded up.

    Raises:
        TrainingError: the share is not between 0 and 1, or leaves nothing to train on.

    >>> trained, held_out = divided([Example(str(n), "yes") for n in range(10)], 0.1, seed=0)
    >>> len(trained), len(held_out)
    (9, 1)
    """
    if not 0 < share < 1:
        raise TrainingError(f"validation is a share of {share}: give one between 0 and 1, or a validation set")
    n = math.ceil(len(examples) * share)
    if n >= len(examples):
        raise TrainingError(
            f"a validation share of {share:g} of {len(examples)} examples leaves none to train on: give more examples"
        )
    shuffled = list(examples)
    Random(seed).shuffle(shuffled)
    return tuple(shuffled[n:]), tuple(shuffled[:n])


def check_apart(training: Sequence[Example], validation: Sequence[Example]) -> None:
    """Refuse a validation set that asks what is trained on; spaces and line ends don't tell questions apart.

    Raises:
        TrainingError: it does; the first such question is shown, and how many there are.

    >>> check_apart([Example("1 + 1", "2")], [Example("1 + 2", "3")])
    """
    trained = {_bare(example.question) for example in training}
    both = [example for example in validation if _bare(example.question) in trained]
    if both:
        raise TrainingError(
            f"{len(both)} of {len(validation)} validation questions are trained on as well, the first "
            f"{both[0].key or _short(both[0].question)!r}: a loss on them says nothing; take them out of one of the two"
        )


def _bare(question: str) -> str:
    return " ".join(question.split())


def _short(text: str, most: int = 60) -> str:
    bare = _bare(text)
    return bare if len(bare) <= most else bare[: most - 1] + "…"


def _read(path: Path, named: Mapping[str, str], *, needs_answer: bool) -> list[Example]:
    if not path.is_file():
        raise TrainingError(f"{path}: no such file; give one with a JSON object a line")
    found = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                told = json.loads(line)
            except json.JSONDecodeError as error:
                raise TrainingError(f"{where}: no JSON ({error.msg}); give a JSON object a line") from error
            found.append(_example(told, named, where, needs_answer))
    return found


def _example(told: Any, named: Mapping[str, str], where: str, needs_answer: bool) -> Example:
    if not isinstance(told, Mapping):
        raise TrainingError(f"{where}: a {type(told).__name__}, not an object with the fields of an example")
    parts = {}
    for part, name in named.items():
        value = told.get(name)
        if not value and part == "answer" and not (needs_answer and name != FIELDS["answer"]):
            continue
        if not isinstance(value, str) or not value.strip():
            how = "is missing" if value is None else "is empty" if value == "" else "is no text"
            raise TrainingError(f"{where}: the field {name!r} {how}; it has {', '.join(map(repr, told)) or 'none'}")
        parts[part] = value
    key = told.get("key")
    return Example(**parts, key=where if key is None else str(key))
