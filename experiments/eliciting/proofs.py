"""What the family is taught and asked: a thousand proofs, and the questions that no training of the family has seen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from random import Random

import circuitkit as ck
from circuitkit.evaluation import Evaluation
from circuitkit.tasks import prontoqa
from circuitkit.tasks.task import Task
from circuitkit.training import Example

# Rules that a proof of one hop needs two or three sentences for: a base lacks them, its reasoning twin has them.
RULES = ("implication_elimination", "conjunction_introduction", "conjunction_elimination", "disjunction_introduction")
# The family's own evaluation: all its trainings passed these questions over.
HELD_OUT_SEED, HELD_OUT_SIZE = 7, 300
PROOF_SEED = 4_000_000  # the family's own trainings draw from 1,000,000


@dataclass(frozen=True)
class Questions:
    """Which questions are asked: `n` of each rule, of the family's held-out ones, without exemplars.

    A question that is there twice, in whatever order its sentences stand, is asked once, and so is left out of `n`.
    """

    rules: tuple[str, ...] = RULES
    hops: int = 1
    n: int = 50
    max_new_tokens: int = 48

    def task(self) -> Task:
        """The questions as a task."""
        return _held_out(self)

    def evaluated(self, model: ck.Model) -> Evaluation:
        """A model's proofs by greedy decoding that nothing distorts, judged."""
        return ck.evaluate(model, self.task(), decoding="clean", progress=False)

    def texts(self) -> list[str]:
        """Each question with its gold proof, as a model reads both."""
        return [f"{item.question} {item.gold}" for item in self.task().items]


# Every cell asks the same again, and drawing it takes longer than a small model's answers.
@lru_cache(maxsize=16)
def _held_out(questions: Questions) -> Task:
    drawn = prontoqa.task(questions.rules, questions.hops, 0, HELD_OUT_SIZE, HELD_OUT_SEED)
    keys, seen, taken = [], set(), dict.fromkeys(questions.rules, 0)
    for item in drawn.items:
        rule, asked = str(item.groups["rule"]), told_apart(item.question)
        if asked not in seen and taken[rule] < questions.n:
            seen.add(asked)
            taken[rule] += 1
            keys.append(item.key)
    return replace(drawn.only(keys), max_new_tokens=questions.max_new_tokens)


@dataclass(frozen=True)
class Proofs:
    """Which proofs are taught: `n` in all, as many of each rule, distinct, and none of them of the held-out ones."""

    rules: tuple[str, ...] = RULES
    hops: int = 1
    n: int = 1000
    seed: int = PROOF_SEED

    def examples(self) -> list[Example]:
        """The proofs, rule after rule in turn."""
        held_out = {
            told_apart(example.prompt)
            for rule in self.rules
            for example in prontoqa.generate(rule, self.hops, 0, HELD_OUT_SIZE, HELD_OUT_SEED)
        }
        drawing = {rule: self._distinct(rule, held_out) for rule in self.rules}
        return [next(drawing[self.rules[number % len(self.rules)]]) for number in range(self.n)]

    def _distinct(self, rule: str, passed_over: set[str]) -> Iterator[Example]:
        random = Random(f"{self.seed}/{rule}/{self.hops}")
        seen = set(passed_over)
        number = 0
        while True:
            drawn = prontoqa.sample(random, rule, hops=self.hops)
            if (asked := told_apart(drawn.prompt)) not in seen:
                seen.add(asked)
                yield Example(f"{drawn.question} {drawn.query}", drawn.gold, key=f"{rule}/{self.hops}/{number:03d}")
                number += 1


def told_apart(question: str) -> str:
    """A question but for the order of its sentences, by which nothing is another question."""
    sentences = re.split(r"(?<=\.)\s+", question.removeprefix("Q:").removesuffix("A:").strip())
    return " ".join(sorted(sentence.strip() for sentence in sentences))
