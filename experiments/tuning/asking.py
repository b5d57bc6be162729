"""What models are asked before and after fine-tuning: which questions, in which words, behind which separator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

from circuitkit.tasks import prontoqa
from circuitkit.tasks.prontoqa.judges import PROOF_JUDGES
from circuitkit.tasks.prontoqa.language import CONCEPTS, ENTITIES
from circuitkit.tasks.task import Item, Task
from tuning.texts import HARD, RULES, Data, Duplicates, replacements, swapped

Separator = Literal["published", "trained"]
Words = Literal["as drawn", "known", "withheld", "withheld names", "new names"]

NEW_NAMES = ("Zora", "Milo", "Ines", "Otto")
NEXT_QUESTION = "Q:"


@dataclass(frozen=True)
class Asked:
    """A set of questions, and how they are asked.

    Attributes:
        of: "test" questions of the runs whose exemplars are trained on, or the "training" questions themselves.
        seed: of the runs.
        rules: whose questions.
        hops: of the rules that may have several.
        n: questions for each rule and number of hops.
        trials: runs whose exemplars are trained on, as in the `Data` of the training.
        duplicates: what became of training questions that are test questions too, as there.
        shots: exemplars before each, those of its run.
        separator: what stands before "A:": as "published", two newlines for the rules with hypotheses, or one
            everywhere, as in the texts that models are "trained" on.
        words: names and concepts "as drawn"; "known" or "withheld" ones in the same places; or "new names".
        withheld: the words that are withheld.
        max_new_tokens: where a proof is broken off.

    >>> asked = Asked(rules=("proof_by_contradiction",), n=1, separator="trained")
    >>> asked.task().items[0].question[-4:]
    '.\\nA:'
    """

    of: Literal["test", "training"] = "test"
    seed: int = 0
    rules: tuple[str, ...] = RULES
    hops: tuple[int, ...] = (1,)
    n: int = 100
    trials: int = 100
    duplicates: Duplicates = "keep"
    shots: int = 0
    separator: Separator = "published"
    words: Words = "as drawn"
    withheld: tuple[str, ...] = ()
    max_new_tokens: int = 256

    def task(self) -> Task:
        """The questions as a task."""
        items = self._trained() if self.of == "training" else self._tested()
        items = [replace(item, question=self._asked(item)) for item in items]
        name = f"fine-tuning/{self.of} seed {self.seed}/{'+'.join(self.rules)}/{'+'.join(map(str, self.hops))} hops"
        return Task(
            f"{name}/{self.separator} separator/{self.words}",
            tuple(items),
            PROOF_JUDGES,
            shots=self.shots,
            max_new_tokens=self.max_new_tokens,
            stop=(NEXT_QUESTION,),
        )

    @property
    def _data(self) -> Data:
        """The training's own: of other runs, or without those dropped, its split would be another."""
        return Data(
            seed=self.seed,
            rules=self.rules,
            hops=self.hops,
            trials=self.trials,
            duplicates=self.duplicates,
            withheld=self.withheld,
        )

    def _tested(self) -> list[Item]:
        # Runs are drawn as those whose exemplars are trained on, so that their questions are the same.
        items: list[Item] = []
        data = self._data
        for rule, hops in data.parts:
            drawn = prontoqa.task(rule, hops, max(self.shots, data.shots), max(self.n, 1), self.seed)
            items += drawn.items[: self.n]
        return items

    def _trained(self) -> list[Item]:
        data = self._data
        training, _ = data.split()
        items: list[Item] = []
        for rule, hops in data.parts:
            shown = [example for example in training if example.key.startswith(f"{rule}/{hops}/")]
            for example in Random(self.seed).sample(shown, min(self.n, len(shown))):
                gap = "\n\n" if rule in HARD else "\n"
                groups: dict[str, str | int] = {"rule": rule, "hops": hops}
                items.append(Item(example.key, f"Q: {example.question}{gap}A:", example.chain, groups=groups))
        return items

    def _asked(self, item: Item) -> str:
        question = item.question
        if self.separator == "trained":
            question = question.replace("\n\nA:", "\nA:")
        return question if self.words == "as drawn" else reworded(question, self.words, self.withheld, item.key)


def reworded(question: str, words: Words, withheld: Sequence[str], key: str) -> str:
    """A question about other things: those that training knew, those that it withheld, or names never heard of.

    Known and withheld words stand in the same places, so that the two can be compared question by question: the words
    that are withheld are put in for others, or others for them.
    """
    random = Random(f"words {key}")
    if words == "new names":
        return swapped(question, _drawn(question, NEW_NAMES, random))
    # Without withheld words first, so that both forms start alike.
    known = swapped(question, replacements(question, withheld, random))
    if words == "known":
        return known
    names = [word for word in withheld if word[0].isupper()]
    return swapped(known, _drawn(known, names if words == "withheld names" else withheld, random))


def _drawn(question: str, words: Sequence[str], random: Random) -> dict[str, str]:
    """Which word of a question is to become which: its name another name, and as many concepts as there are others."""
    names = [word for word in words if word[0].isupper()]
    concepts = [word for word in words if not word[0].isupper()]
    here = [name for name in ENTITIES if f"{name} " in question]
    chosen = {name: random.choice(names) for name in here[:1] if names}
    # Vowels would need another article.
    found = [each for each in CONCEPTS if each in question.lower() and each[0] not in "aeiou"]
    random.shuffle(found)
    random.shuffle(concepts)
    return chosen | dict(zip(found, concepts, strict=False))
