"""The published fine-tuning data: the exemplars of 3-shot runs, and the questions of the same runs to be tested on.

Source: Hsiao & Dutta 2025 (arXiv 2502.15120): 6 rules, 100 runs of one question, 3 exemplars each, 1,800 proofs.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Literal

from circuitkit.tasks import prontoqa
from circuitkit.tasks.prontoqa.language import CONCEPTS, ENTITIES
from circuitkit.training import Example

RULES = prontoqa.RULES
HARD = prontoqa.ONE_HOP_RULES
EASY = tuple(rule for rule in RULES if rule not in HARD)

Duplicates = Literal["keep", "drop", "refuse"]

WITHHELD = ("Stella", "Wren", "lorpus", "brimpus")
"""Names and concepts that a model is never shown in the training "without words"; all take the article "a"."""


class DataError(ValueError):
    """Training data that cannot be drawn, or that hold what is to be tested."""


@dataclass(frozen=True)
class Data:
    """Which proofs a model is fine-tuned on.

    Attributes:
        seed: of the runs whose exemplars they are.
        rules: the rules that are shown.
        hops: numbers of hops of the rules that may have several.
        trials: runs for each rule and number of hops.
        shots: exemplars of each run.
        duplicates: what becomes of training questions that are test questions too: they are kept, as published,
            dropped, or refused.
        withheld: words that others stand for, so that they are never seen.
        validation: the share that is held out for the choice of a checkpoint.

    >>> data = Data(trials=2)
    >>> len(data.examples), sum(data.duplicated.values()) <= 36
    (36, True)
    """

    seed: int = 0
    rules: tuple[str, ...] = RULES
    hops: tuple[int, ...] = (1,)
    trials: int = 100
    shots: int = 3
    duplicates: Duplicates = "keep"
    withheld: tuple[str, ...] = ()
    validation: float = 0.1

    def __post_init__(self) -> None:
        if unknown := [rule for rule in self.rules if rule not in RULES]:
            raise DataError(f"there is no rule {unknown[0]!r}; there are {', '.join(RULES)}")
        if not self.rules or self.trials < 1 or self.shots < 1:
            raise DataError(f"{self.trials} runs of {self.shots} exemplars of {len(self.rules)} rules are no data")
        if not 0 < self.validation < 1:
            raise DataError(f"validation is a share between 0 and 1, not {self.validation}")
        if unknown := [word for word in self.withheld if word not in (*ENTITIES, *CONCEPTS)]:
            raise DataError(f"{unknown[0]!r} is no name and no concept of the language, so it cannot be withheld")

    @property
    def parts(self) -> tuple[tuple[str, int], ...]:
        """The rules, each with each of its numbers of hops."""
        return tuple((rule, hops) for rule in self.rules for hops in ((1,) if rule in HARD else self.hops))

    def runs(self, rule: str, hops: int) -> list[prontoqa.Example]:
        """The runs of one rule, each a test question behind its exemplars."""
        return prontoqa.generate(rule, hops=hops, shots=self.shots, n=self.trials, seed=self.seed)

    @cached_property
    def examples(self) -> tuple[Example, ...]:
        """The exemplars of all runs, rule by rule, as training examples.

        Raises:
            DataError: a training question is a test question too, and duplicates are refused.
        """
        found: list[Example] = []
        for rule, hops in self.parts:
            runs = self.runs(rule, hops)
            for number, run in enumerate(runs):
                for place, exemplar in enumerate(run.exemplars):
                    question, chain = read(exemplar)
                    key = f"{rule}/{hops}/{number:03d}/{place}"
                    found.append(Example(question=question, chain=chain, key=key))
        tested = self._tested
        twice = [example for example in found if plain(example.question) in tested]
        if twice and self.duplicates == "refuse":
            raise DataError(
                f"{len(twice)} of {len(found)} training questions are test questions too, the first {twice[0].key}: "
                f"{twice[0].question!r}. Drop them, keep them as published, or take another seed"
            )
        if self.duplicates == "drop":
            found = [example for example in found if plain(example.question) not in tested]
        return tuple(_without(example, self.withheld, self.seed) for example in found)

    @cached_property
    def _tested(self) -> frozenset[str]:
        return frozenset(plain(run.judged) for rule, hops in self.parts for run in self.runs(rule, hops))

    @property
    def duplicated(self) -> dict[str, int]:
        """How many test questions of each rule are training questions too, word for word, before any is dropped."""
        counts: dict[str, int] = dict.fromkeys(self.rules, 0)
        for rule, hops in self.parts:
            runs = self.runs(rule, hops)
            seen = {plain(read(exemplar)[0]) for run in runs for exemplar in run.exemplars}
            counts[rule] += sum(plain(run.judged) in seen for run in runs)
        return counts

    def split(self) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
        """Training and validation, seeded; of a question that is there twice, no copy is validated on.

        >>> training, validation = Data(trials=4).split()
        >>> len(training), len(validation)
        (65, 7)
        """
        counts = Counter(plain(example.question) for example in self.examples)
        alone = [at for at, example in enumerate(self.examples) if counts[plain(example.question)] == 1]
        wanted = round(self.validation * len(self.examples))
        if wanted < 1 or wanted > len(alone):
            raise DataError(
                f"{wanted} of {len(self.examples)} examples are to be validated on, and {len(alone)} are there once: "
                "give another share, or more trials"
            )
        held = set(Random(self.seed).sample(alone, wanted))
        training = tuple(example for at, example in enumerate(self.examples) if at not in held)
        return training, tuple(self.examples[at] for at in sorted(held))


def read(exemplar: str) -> tuple[str, str]:
    """Read an exemplar of a prompt: its question with "Prove:", and its proof.

    >>> read("Q: Fae is a loud wumpus. Prove: Fae is a wumpus.\\nA: Fae is a loud wumpus. Fae is a wumpus.\\n\\n")
    ('Fae is a loud wumpus. Prove: Fae is a wumpus.', 'Fae is a loud wumpus. Fae is a wumpus.')
    """
    # A question without rules begins with a space, in exemplars as where it is tested.
    question, chain = re.split(r"\n+A: ", exemplar.removeprefix("Q: "), maxsplit=1)
    return question, chain.rstrip("\n")


def plain(question: str) -> str:
    """A question with single spaces, by which two are held to be the same."""
    return " ".join(question.split())


def in_words(rule: str) -> str:
    """A rule's name in words.

    >>> in_words("proof_by_contradiction")
    'proof by contradiction'
    """
    return rule.replace("_", " ")


def swapped(text: str, words: dict[str, str]) -> str:
    """A text with other names and concepts, plural and capitalised forms alike.

    >>> swapped("Lorpuses are shy. Wren is a lorpus.", {"lorpus": "gorpus", "Wren": "Rex"})
    'Gorpuses are shy. Rex is a gorpus.'
    """

    def other(found: re.Match[str]) -> str:
        word = words.get(found[1]) or words[found[1].lower()]
        return (word.capitalize() if found[1][0].isupper() else word) + (found[2] or "")

    known = [form for word in words for form in (word, word.capitalize())]
    return re.sub(rf"\b({'|'.join(map(re.escape, known))})(es)?\b", other, text) if words else text


def replacements(text: str, away: Sequence[str], random: Random) -> dict[str, str]:
    """For each of these words that a text has, another of its kind that the text has not and that takes "a" too."""
    here = [word for word in away if re.search(rf"\b{word}(es)?\b", text, re.IGNORECASE)]
    chosen: dict[str, str] = {}
    for word in here:
        kind = ENTITIES if word in ENTITIES else [concept for concept in CONCEPTS if concept[0] not in "aeiou"]
        free = [
            other
            for other in kind
            if other not in away
            and other not in chosen.values()
            and not re.search(rf"\b{other}(es)?\b", text, re.IGNORECASE)
        ]
        chosen[word] = random.choice(free)
    return chosen


def _without(example: Example, withheld: Sequence[str], seed: int) -> Example:
    whole = f"{example.question}\n{example.chain}"
    words = replacements(whole, withheld, Random(f"{seed} {example.key}"))
    if not words:
        return example
    return Example(question=swapped(example.question, words), chain=swapped(example.chain, words), key=example.key)
