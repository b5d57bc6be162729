"""What a response earns: a judge's word, and partial credit where a judge says no."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from circuitkit.tasks.task import Item, Judge, Task
from circuitkit.training.errors import TrainingError


@dataclass(frozen=True)
class Reward:
    """What a response to a task's item earns: 1 where the judge finds it right, else what partial credit adds up to.

    Partial credit is given by name, each with its weight: another judge of the task (1 where it says right); "read" (1
    where the judge could read an answer); "gold" (the share of the gold answer's sentences that the response says, in
    any order). A model that learns for partial credit may learn to collect it: "gold" is earned in full by copying
    every sentence of a question too. So the weights have to sum to less than 1, and a right answer earns most.

    Attributes:
        task: whose judges are asked.
        judge: the judge's name; that of the headline if None.
        partial: weights of partial credit.

    Raises:
        TrainingError: there is no such judge or credit, or the weights leave a right answer nothing more to earn.

    >>> from circuitkit.tasks import prontoqa
    >>> task = prontoqa.task("implication_elimination", shots=0, n=1)
    >>> item = task.items[0]
    >>> Reward(task, "strict")(item, item.gold), Reward(task)(item, "")
    (1.0, 0.0)
    >>> round(Reward(task, partial={"gold": 0.3})(item, item.gold.split(". ")[0] + "."), 3)
    0.1
    """

    task: Task
    judge: str | None = None
    partial: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        judges = self.task.judges
        if self.judge is not None and self.judge not in judges:
            raise TrainingError(f"{self.task.name} has no judge {self.judge!r}; it has {', '.join(judges)}")
        for name, weight in self.partial.items():
            if name not in judges and name not in _CREDITS:
                raise TrainingError(
                    f"{self.task.name} has no partial credit {name!r}; give a judge ({', '.join(judges)}) or "
                    f"{' or '.join(_CREDITS)}"
                )
            if name == self.name:
                raise TrainingError(
                    f"{name!r} is the judge that earns the whole reward: no partial credit is left for it"
                )
            if not weight > 0:
                raise TrainingError(f"the partial credit {name!r} weighs {weight}: give more than 0, or leave it out")
        if sum(self.partial.values()) >= 1:
            raise TrainingError(
                f"partial credit sums to {sum(self.partial.values()):g}, and a right answer earns 1: give weights that "
                "sum to less"
            )

    @property
    def name(self) -> str:
        """The name of the judge."""
        return self.judge or next(iter(self.task.judges))

    def right(self, item: Item, response: str) -> bool:
        """Whether the judge finds a response right."""
        return self.task.judges[self.name](item, response).correct

    def __call__(self, item: Item, response: str) -> float:
        """What a response earns, from 0 to 1."""
        if self.right(item, response):
            return 1.0
        return sum((weight * self._credit(name, item, response) for name, weight in self.partial.items()), 0.0)

    def _credit(self, name: str, item: Item, response: str) -> float:
        if name in self.task.judges:
            return float(self.task.judges[name](item, response).correct)
        return _CREDITS[name](self.task.judges[self.name], item, response)


def _read(judge: Judge, item: Item, response: str) -> float:
    return float(judge(item, response).said is not None)


def _gold(judge: Judge, item: Item, response: str) -> float:
    wanted, said = set(_sentences(item.gold)), set(_sentences(response))
    return len(wanted & said) / len(wanted)


def _sentences(text: str) -> list[str]:
    found = (" ".join(sentence.split()).removesuffix(".") for sentence in re.split(r"(?<=\.)\s+", text))
    return [sentence for sentence in found if sentence]


_CREDITS: Mapping[str, Callable[[Judge, Item, str], float]] = MappingProxyType({"read": _read, "gold": _gold})
