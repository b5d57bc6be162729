"""What models are asked, which answers are whose seed's, and the text that needs no reasoning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal, Protocol

from eliciting.proofs import RULES, Proofs, Questions
from eliciting.traces import Traces

import circuitkit as ck
from circuitkit.evaluation import Decoding, Evaluation
from circuitkit.tasks import aime, prontoqa
from circuitkit.tasks.task import Item, Judgement, Task, TaskError
from circuitkit.training import Example

PROMPT = (
    "{problem}\n\nPlease reason step by step, and put your final answer within \\boxed{}. It's a math problem and "
    "don't output any code. Remember to put your final answer within \\boxed{}."
)
"""What the paper asks of AIME's problems, as plain text."""
YEARS = {"aime": (2024, 2025), "aime24": (2024,), "aime25": (2025,)}
FLUENT_SEED = 5_000_000  # of no training and no evaluation of the family


class Asked(Protocol):
    """What models are asked, with several seeds."""

    draws: Literal["questions", "tokens"]
    """What a seed draws."""

    def evaluated(self, model: ck.Model, seeds: Sequence[int]) -> Evaluation:
        """A model's answers with each seed, judged."""

    def seed_column(self) -> str:
        """Which column of the evaluation's table has the seed of an answer."""

    def fluent(self) -> list[str]:
        """Held-out texts that need no reasoning."""


@dataclass(frozen=True)
class Deductions:
    """Proofs that the embedded family never trained on; a seed has its own questions, and decoding is greedy.

    Attributes:
        n: questions of each rule and seed.
        rules, hops: of the proofs.
        max_new_tokens: where a response is broken off.
        texts: how many texts of rules and facts are read for the fluency.
    """

    n: int = 12
    rules: tuple[str, ...] = RULES
    hops: int = 1
    max_new_tokens: int = 48
    texts: int = 60
    draws: Literal["questions"] = "questions"

    def task(self, seeds: Sequence[int]) -> Task:
        """The questions of some seeds; each seed's are others.

        Raises:
            TaskError: there are not as many held-out questions.
        """
        pool = Questions(self.rules, self.hops, self.n * (max(seeds) + 1), self.max_new_tokens).task()
        items: list[Item] = []
        for seed in seeds:
            for rule in self.rules:
                own = [item for item in pool.items if item.groups["rule"] == rule]
                own = own[self.n * seed : self.n * (seed + 1)]
                if len(own) < self.n:
                    raise TaskError(
                        f"seed {seed} has {len(own)} held-out questions of {rule} left and wants {self.n}: ask fewer, "
                        "or with fewer seeds"
                    )
                items += [replace(item, groups={**item.groups, "draw": seed}) for item in own]
        return replace(pool, items=tuple(items))

    def evaluated(self, model: ck.Model, seeds: Sequence[int]) -> Evaluation:
        """A model's proofs by greedy decoding."""
        return ck.evaluate(model, self.task(seeds), decoding="clean", progress=False)

    def seed_column(self) -> str:
        """A seed draws questions."""
        return "draw"

    def fluent(self) -> list[str]:
        """Statements of rules and facts as the family's questions have them, without what is asked of them."""
        return list(_statements(self.rules, self.texts))


# Every cell reads the same again.
@lru_cache(maxsize=16)
def _statements(rules: tuple[str, ...], texts: int) -> tuple[str, ...]:
    each = -(-texts // (3 * len(rules)))
    every = [
        example
        for rule in rules
        for hops in (1, 2, 3)
        for example in prontoqa.generate(rule, hops=hops, shots=0, n=each, seed=FLUENT_SEED, mode="direct")
    ]
    return tuple(f"Q: {example.question}" for example in every[:texts])


@dataclass(frozen=True)
class Contest:
    """A task whose questions are fixed: a seed draws the tokens of all answers anew.

    Attributes:
        task: a name or path of `ck.tasks.load`; AIME is asked as in the paper.
        fluency: a text file that needs no reasoning.
        temperature: of the draws.
        max_new_tokens: where a response is broken off; the task's own number if None.
        limit: the first questions alone.
        window: characters of a text that are read at once for the fluency.
        texts: such pieces, at most.
    """

    task: str
    fluency: Path
    temperature: float = 0.6
    max_new_tokens: int | None = 16_384
    limit: int | None = None
    window: int = 2000
    texts: int = 60
    draws: Literal["tokens"] = "tokens"

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise TaskError(f"at temperature {self.temperature:g} all seeds give the same answers: give one above 0")

    def evaluated(self, model: ck.Model, seeds: Sequence[int]) -> Evaluation:
        """A model's answers to plain prompts."""
        return ck.evaluate(
            model,
            asked_as_published(self.task),
            decoding=Decoding(temperature=self.temperature, name=f"temperature {self.temperature:g}"),
            seeds=seeds,
            limit=self.limit,
            max_new_tokens=self.max_new_tokens,
            progress=False,
        )

    def seed_column(self) -> str:
        """The evaluation's own."""
        return "seed"

    def fluent(self) -> list[str]:
        """The file in pieces of some characters, broken at spaces.

        Raises:
            TaskError: the file is not there, or holds no text.
        """
        if not self.fluency.is_file():
            raise TaskError(f"there is no file {self.fluency} to measure the fluency on: give one with --fluency")
        words, pieces = self.fluency.read_text(encoding="utf-8").split(" "), [""]
        for word in words:
            if len(pieces[-1]) + len(word) > self.window:
                pieces.append("")
            pieces[-1] = f"{pieces[-1]} {word}" if pieces[-1] else word
        found = [piece for piece in pieces if len(piece.split()) > 1][: self.texts]
        if not found:
            raise TaskError(f"{self.fluency} holds no text to measure the fluency on")
        return found


def asked_as_published(name: str) -> Task:
    """A task by its name; AIME with the paper's prompt, and its lenient scoring beside the other judges."""
    if name not in YEARS:
        return ck.tasks.load(name)
    task = aime.task(YEARS[name], prompt=PROMPT)
    return replace(task, judges={**task.judges, "published": published_judge})


def published_judge(item: Item, response: str) -> Judgement:
    r"""The paper's scoring: right where the gold answer is part of any \boxed{} text of one line.

    >>> published_judge(Item("", "?", "7"), r"So it is \boxed{73}.").correct
    True
    """
    boxed = [part.split("}")[0] for line in response.splitlines() for part in line.split(r"\boxed{")[1:] if "}" in part]
    return Judgement(any(item.gold in each for each in boxed), boxed[-1] if boxed else None)


@dataclass(frozen=True)
class TaughtProofs:
    """A thousand proofs that a base learns to reason from, and held-out ones that a learning rate is chosen by.

    Attributes:
        n: proofs that are trained on.
        held_out: proofs whose loss is measured.
    """

    n: int = 928
    held_out: int = 72

    def examples(self) -> tuple[list[Example], list[Example]]:
        """Those that are trained on, and the held-out ones."""
        every = Proofs(n=self.n + self.held_out).examples()
        return every[self.held_out :], every[: self.held_out]


@dataclass(frozen=True)
class TaughtTraces:
    """Reasoning traces such as s1K-1.1's, the last of them held out.

    Attributes:
        source: a data set of the hub, or a file.
        held_out: traces whose loss is measured.
    """

    source: str
    held_out: int = 72

    def examples(self) -> tuple[list[Example], list[Example]]:
        """Those that are trained on, and the held-out ones."""
        every = Traces(self.source).examples()
        return every[: -self.held_out], every[-self.held_out :]
