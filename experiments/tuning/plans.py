"""What `finetuning.py` trains and asks: the plan, its presets, and how much of the published protocol each keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tuning.cells import Reinforcing, Tuning
from tuning.texts import EASY, HARD, RULES, WITHHELD, Data, Duplicates

DEDUCTORS = (
    "deductor-5k-base",
    "deductor-20k-base",
    "deductor-60k-base",
    "deductor-130k-base",
    "deductor-60k-reason",
    "deductor-130k-reason",
    "deductor-130k-base-newlines",
)
"""The last is `deductor-130k-base` with a token of its own for two newlines; see `newlines.merged_twin`."""

TINY = 10_000_000
"""Parameters below which the published learning rate would hardly move a model."""


@dataclass(frozen=True)
class Stage:
    """A part of a training in stages.

    Attributes:
        name: what figures call it.
        rules, hops: of the proofs that are trained on.
        share: of all steps.
    """

    name: str
    rules: tuple[str, ...] = RULES
    hops: tuple[int, ...] = (1,)
    share: float = 1 / 3

    def data(self, seed: int, trials: int, duplicates: Duplicates = "keep") -> Data:
        """The stage's proofs; each kind has as many, so that stages with more kinds have more."""
        return Data(seed=seed, rules=self.rules, hops=self.hops, trials=trials, duplicates=duplicates)


HOPS = (1, 2)
MIXED = Stage("all", RULES, HOPS)
CURRICULA: Mapping[str, tuple[Stage, ...]] = {
    "mixed": (MIXED, MIXED, MIXED),
    "easy to hard": (
        Stage("easy rules, one hop", EASY, (1,)),
        Stage("easy rules, one and two hops", EASY, HOPS),
        MIXED,
    ),
    "hard to easy": (Stage("hard rules", HARD, (1,)), Stage("hard rules, easy rules of one hop", RULES, (1,)), MIXED),
}
"""Trainings of equal steps in three stages; the rate falls to 0 and rises anew in each, in the mixed one too."""


@dataclass(frozen=True)
class Plan:
    """What is trained and asked.

    Attributes:
        models: that are fine-tuned as published, by name.
        seeds: of proofs, questions, splits and batches of those; the first of them is in the tables before and after.
        trials: runs of each rule, whose exemplars are trained on.
        n: questions for each rule, of the same runs, so no more than there are trials.
        tuning: how models are fine-tuned.
        tiny_rate: the learning rate of models below ten million parameters.
        transfer: models from whose training each rule is left out.
        transfer_seeds: of those trainings.
        transferring: how models are tuned there.
        transferring_of: how models are that are tuned there in a way of their own.
        hops: further numbers of hops that are asked.
        staged: models that are trained in stages and by GRPO.
        staged_seeds: of those.
        staged_steps: of each training in stages.
        after: steps that are then taken on the hard rules, by fine-tuning or by GRPO.
        staging: how models are trained in stages.
        grpo: how by GRPO.
        withheld: words that one training withholds.
        duplicates: what becomes of training questions that are test questions.
    """

    models: tuple[str, ...] = DEDUCTORS
    seeds: tuple[int, ...] = (0,)
    trials: int = 100
    n: int = 100
    tuning: Tuning = field(default_factory=Tuning)
    tiny_rate: float = 3e-3
    transfer: tuple[str, ...] = ()
    transfer_seeds: tuple[int, ...] = (0, 1, 2)
    transferring: Tuning = field(default_factory=lambda: PADDED)
    transferring_of: Mapping[str, Tuning] = field(default_factory=dict)
    hops: tuple[int, ...] = (2, 3)
    staged: tuple[str, ...] = ()
    staged_seeds: tuple[int, ...] = (0, 1, 2)
    staged_steps: int = 600
    after: int = 60
    staging: Tuning = field(default_factory=lambda: PADDED)
    grpo: Reinforcing = field(default_factory=Reinforcing)
    withheld: tuple[str, ...] = WITHHELD
    duplicates: Duplicates = "keep"
    max_new_tokens: int = 256

    def __post_init__(self) -> None:
        for name in ("transfer", "staged"):
            if unknown := [model for model in getattr(self, name) if model not in self.models]:
                raise ValueError(f"{name}: {unknown[0]} is not among the models: name it there too")
        if not self.models or not self.seeds or self.trials < 2 or self.n < 2:
            raise ValueError("a plan needs models, seeds, and two runs and questions at least")
        # A question of a further run would not be looked for among those that are trained on.
        if self.n > self.trials:
            raise ValueError(f"{self.n} questions a rule are asked of {self.trials} runs: ask as many at most")

    def data(self, seed: int, rules: tuple[str, ...] = RULES) -> Data:
        """The published training set of a seed, of all rules or of some."""
        return Data(seed=seed, rules=rules, trials=self.trials, duplicates=self.duplicates)

    def rated(self, tuning: Tuning, parameters: int) -> Tuning:
        """A way of tuning at the learning rate that a model of this size takes."""
        return replace(tuning, learning_rate=self.tiny_rate) if parameters < TINY else tuning


PADDED = Tuning(
    context=None,
    batch=16,
    steps=500,
    more={"layout": "pad", "loss_on": "chain", "end": True, "rule": "last", "log_every": 20},
)
"""Fine-tuning on proofs alone: a row an example, the loss on proofs, an end token; the last step counts.

Tiny models learn the rules by it that they do not learn as published, so that there is something to transfer or lose.
"""

LETTER = Plan()
"""As published: up to 100 epochs, pieces of 1,024 tokens, 8 in a step."""

FULL = Plan(
    models=(
        "deductor-5k-base",
        "deductor-20k-base",
        "deductor-60k-base",
        "deductor-130k-base",
        "deductor-130k-reason",
        "deductor-130k-base-newlines",
    ),
    tuning=Tuning(epochs=12, context=256, batch=2, more={"log_every": 20}),
    transfer=("deductor-20k-base", "deductor-130k-base"),
    transfer_seeds=(0, 1),
    transferring_of={"deductor-130k-base": replace(PADDED, batch=8, steps=550)},
    hops=(2,),
    staged=("deductor-130k-base",),
    staging=replace(PADDED, batch=8),
    staged_steps=480,
    after=30,
    grpo=Reinforcing(learning_rate=1e-4, batch=32, group=8),
)
"""What the page on fine-tuning shows: pieces of 256 tokens, 2 in a step, and 12 epochs, as a CPU core has time for."""

SMALL = Plan(
    models=("deductor-5k-base", "deductor-20k-base", "deductor-20k-base-newlines"),
    trials=16,
    n=16,
    tuning=Tuning(epochs=3, context=256, batch=2),
    transfer=("deductor-20k-base",),
    transfer_seeds=(0, 1),
    transferring=replace(PADDED, steps=40),
    hops=(2,),
    staged=("deductor-20k-base",),
    staged_seeds=(0, 1),
    staged_steps=30,
    after=4,
    grpo=Reinforcing(learning_rate=1e-3, batch=8, group=4, max_new_tokens=64),
    max_new_tokens=96,
)

PRESETS = {"small": SMALL, "full": FULL, "letter": LETTER}
