"""What a task is: questions with gold answers, the prompt that asks each, and judges of what is answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from circuitkit.showing import Shown

if TYPE_CHECKING:
    import pandas as pd


class TaskError(ValueError):
    """A task that cannot be asked: a field is missing, a question has no answer, an exemplar too many is wanted."""


@dataclass(frozen=True)
class Item:
    """One question of a task.

    Attributes:
        key: names it within its task, the same from run to run: what is resumed and what two models are paired by.
        question: what stands in the prompt for it, behind the exemplars, up to where the answer is to begin.
        gold: the right answer, as the task's judges take it.
        exemplars: its own, each with its answer; the task's where there are none.
        groups: what it is told apart by in tables, such as its rule and number of hops.
    """

    key: str
    question: str
    gold: str
    exemplars: tuple[str, ...] = ()
    groups: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True)
class Judgement:
    """What a judge found in one response.

    Attributes:
        correct: whether it is right.
        said: the answer that was read out of it; None where none could be read, which is what unparseable means.
    """

    correct: bool
    said: str | None


Judge = Callable[[Item, str], Judgement]
"""Judges the text of a response; an empty one is unparseable, never an error."""


@dataclass(frozen=True, repr=False)
class Task(Shown):
    """Questions, how they are asked, and how answers are judged.

    A prompt is the exemplars one after the other and then the item's question, nothing between them: separators are
    part of the texts.

    Attributes:
        name: what tables and folders call it.
        items: its questions.
        judges: by name, the one of the headline first; a response is judged by each of them.
        exemplars: for items that have none of their own, in the order in which they are given.
        shots: how many exemplars are wanted; fewer are given where the model's context holds no more.
        max_new_tokens: where a response is broken off, which counts it as truncated.
        stop: texts that end a response; it is read up to the first of them.
        chance: the accuracy of an answer drawn at random, where there is such a thing.
        source: where the questions come from.
    """

    name: str
    items: tuple[Item, ...]
    judges: Mapping[str, Judge]
    exemplars: tuple[str, ...] = ()
    shots: int = 0
    max_new_tokens: int = 256
    stop: tuple[str, ...] = ()
    chance: float | None = None
    source: str = ""

    def __post_init__(self) -> None:
        if not self.items:
            raise TaskError(f"{self.name}: a task needs questions")
        if not self.judges:
            raise TaskError(f"{self.name}: a task needs a judge")
        seen: set[str] = set()
        for item in self.items:
            if item.key in seen:
                raise TaskError(f"{self.name}: two questions are called {item.key!r}; a key names one question")
            seen.add(item.key)
            if not item.gold:
                raise TaskError(f"{self.name}: question {item.key!r} has no answer key")
        if self.shots < 0:
            raise TaskError(f"{self.name}: {self.shots} exemplars are wanted: give 0 or more")
        if self.shots > self.most_shots:
            raise TaskError(f"{self.name}: {self.shots} exemplars are wanted, and there are {self.most_shots}")

    @property
    def most_shots(self) -> int:
        """How many exemplars every question has."""
        return min(len(self.exemplars_of(item)) for item in self.items)

    def exemplars_of(self, item: Item) -> tuple[str, ...]:
        """All exemplars that a question can be asked behind."""
        return item.exemplars or self.exemplars

    def prompt(self, item: Item, shots: int | None = None) -> str:
        """The text that asks a question, behind so many exemplars, or as many as the task wants.

        >>> task = Task("sums", (Item("0", "Q: 1 + 1\\nA:", "2"),), {"exact": lambda item, said: Judgement(True, said)})
        >>> task.prompt(task.items[0])
        'Q: 1 + 1\\nA:'
        """
        wanted = self.shots if shots is None else shots
        given = self.exemplars_of(item)
        if not 0 <= wanted <= len(given):
            raise TaskError(
                f"{self.name}: {wanted} exemplars are wanted of question {item.key!r}, which has {len(given)}"
            )
        return "".join(given[:wanted]) + item.question

    def only(self, keys: Sequence[str]) -> Task:
        """The same task with some of its questions, in the order in which they are named.

        Raises:
            TaskError: there is no question of such a key.
        """
        known = {item.key: item for item in self.items}
        if missing := [key for key in keys if key not in known]:
            raise TaskError(f"{self.name} has no question {missing[0]!r}")
        return replace(self, items=tuple(known[key] for key in keys))

    def first(self, n: int) -> Task:
        """The same task with its first questions alone, or all where there are fewer.

        Raises:
            TaskError: n is under 1.
        """
        if n < 1:
            raise TaskError(f"{self.name}: the first {n} questions are none: give 1 or more")
        return replace(self, items=self.items[:n])

    def _says(self) -> list[str]:
        judges = ", ".join(self.judges)
        return [f"{len(self.items)} questions, {self.shots} exemplars before each, judged by: {judges}."]

    def _strongest(self) -> pd.DataFrame:
        import pandas as pd

        rows = [{"key": item.key, **item.groups, "question": item.question, "gold": item.gold} for item in self.items]
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        return f"Task({self.name!r}, {len(self.items)} questions, {self.shots} exemplars before each)"
