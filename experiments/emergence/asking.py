"""What models are asked: deductions for the embedded family, a task by name for any other; and how they answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import circuitkit as ck
from circuitkit.evaluation import Decoding
from circuitkit.tasks import prontoqa
from circuitkit.tasks.task import Task, TaskError

Part = Literal["circuit", "answers"]


class Asked(Protocol):
    """What models are asked."""

    def task(self, part: Part) -> Task:
        """The questions that circuits are found on, or those that are answered while heads are changed."""

    def begun(self, tokens: int) -> Asked:
        """The same questions, answered once each and broken off after so many tokens."""

    @property
    def settings(self) -> dict[str, Any]:
        """How they are answered, for `ck.evaluate`."""


@dataclass(frozen=True)
class Deductions:
    """Proofs of the embedded family, answered greedily; the family never trained on them.

    Attributes:
        rules, hops: of the proofs.
        n: questions of each rule and number of hops that are answered while heads are changed.
        circuit: how many of each circuits are found on; others than those.
        max_new_tokens: where an answer is broken off.
    """

    rules: tuple[str, ...] = ("implication_elimination", "conjunction_introduction", "disjunction_introduction")
    hops: tuple[int, ...] = (1, 2, 3, 4)
    n: int = 20
    circuit: int = 8
    max_new_tokens: int = 120

    def begun(self, tokens: int) -> Asked:
        """Greedy answers are all alike: one it is."""
        return replace(self, max_new_tokens=tokens)

    def task(self, part: Part) -> Task:
        """Questions of the family's held-out ones; the first of each kind are the circuits'."""
        whole = prontoqa.task(self.rules, self.hops, 0, 300, 7)
        keys = []
        for rule in self.rules:
            for hops in self.hops:
                own = [item.key for item in whole.items if (item.groups["rule"], item.groups["hops"]) == (rule, hops)]
                keys += own[: self.circuit] if part == "circuit" else own[self.circuit : self.circuit + self.n]
        return replace(whole.only(keys), max_new_tokens=self.max_new_tokens)

    @property
    def settings(self) -> dict[str, Any]:
        """Greedy decoding."""
        return {"decoding": "clean"}


@dataclass(frozen=True)
class Contest:
    """A task by name, asked through the chat template; circuits are found on the same problems, as in the paper.

    Attributes:
        name: as `ck.tasks.load` takes it.
        limit: the first questions alone.
        samples: answers to each.
        temperature, top_p, top_k: of the draws; the paper's 0.6 and 0.95, and 20 for Qwen3.
        max_new_tokens: where an answer is broken off.
        chat: whether to use the chat template.
        think: turn thinking on or off in it, where it has such a thing.
    """

    name: str
    limit: int | None = None
    samples: int = 4
    temperature: float = 0.6
    top_p: float = 0.95
    top_k: int | None = None
    max_new_tokens: int = 32_768
    chat: bool = True
    think: bool | None = None

    def __post_init__(self) -> None:
        if self.samples > 1 and not self.temperature > 0:
            raise TaskError(f"at temperature {self.temperature:g} all samples are alike: give one above 0, or 1 sample")

    def begun(self, tokens: int) -> Asked:
        """One draw of each answer's beginning."""
        return replace(self, samples=1, max_new_tokens=tokens)

    def task(self, part: Part) -> Task:
        """The same questions for both."""
        whole = ck.tasks.load(self.name)
        whole = whole if self.limit is None else whole.first(self.limit)
        return replace(whole, max_new_tokens=self.max_new_tokens)

    @property
    def settings(self) -> dict[str, Any]:
        """Draws of tokens through the chat template."""
        way = Decoding(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            name=f"temperature {self.temperature:g}",
        )
        return {"decoding": way, "samples": self.samples, "chat": self.chat, "think": self.think}
