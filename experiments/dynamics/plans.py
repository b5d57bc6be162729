"""What `training_dynamics.py` runs: a base, a common start, three trainings of it, and how often they are looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from emergence.asking import Deductions
from emergence.plans import STEP, Recipe

Method = Literal["sft", "distillation", "grpo"]
METHODS: tuple[Method, ...] = ("sft", "distillation", "grpo")
RULES = ("implication_elimination", "conjunction_introduction", "disjunction_introduction")


@dataclass(frozen=True)
class Way:
    """How a model is trained.

    Attributes:
        settings: of `ck.train`, over its defaults.
        teacher: of distillation, by name.
    """

    settings: Mapping[str, Any]
    teacher: str | None = None


@dataclass(frozen=True)
class Plan:
    """All that is run.

    Attributes:
        base: by name.
        warm: steps of fine-tuning that all trainings start behind, since a model that is never right earns no reward;
            0 for none.
        warming: how.
        ways: the trainings, by method.
        seeds: of each: order of examples, draws of responses.
        steps: of each training.
        every: steps from one circuit to the next.
        rules, proofs: what is taught: rules, and how many proofs of one hop; as many questions for GRPO.
        asked: what accuracy is measured on.
        recipe: by which circuits are found.
        pairs: of prompts.
        resamples: of the pairs, for stability.
        block: checkpoints that a permuted block has; found from the curves if None.
    """

    base: str
    ways: Mapping[Method, Way]
    warm: int = 230
    warming: Way = field(default_factory=lambda: Way({"learning_rate": 5e-3, "schedule": "constant", "batch_size": 16}))
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 60
    every: int = 6
    rules: tuple[str, ...] = RULES
    proofs: int = 1200
    asked: Deductions = field(default_factory=lambda: Deductions(RULES, (1,), n=30, circuit=0, max_new_tokens=40))
    recipe: Recipe = STEP
    pairs: int = 32
    resamples: int = 50
    block: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.every <= self.steps // 4:
            raise ValueError(
                f"a circuit every {self.every} of {self.steps} steps leaves fewer than four checkpoints, and curves of "
                "these are compared: look more often, or train longer"
            )
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds {self.seeds} are none, or not all different")


def ways(rate: float, reward_rate: float, batch: int, group: int, teacher: str) -> dict[Method, Way]:
    """SFT and distillation at one rate, GRPO at another."""
    supervised = {"learning_rate": rate, "schedule": "linear", "batch_size": 16}
    return {
        "sft": Way(supervised),
        "distillation": Way({**supervised, "method": "distil"}, teacher),
        "grpo": Way(
            {
                "method": "grpo",
                "learning_rate": reward_rate,
                "schedule": "linear",
                "batch_size": batch,
                "group": group,
                "judge": "strict",
                "max_new_tokens": 32,
            }
        ),
    }


_TEACHER = "deductor-130k-reason"
SMALL = Plan("deductor-60k-base", ways(3e-3, 1e-3, 64, 8, _TEACHER), seeds=(0, 1))
FULL = Plan(
    "deductor-60k-base", ways(3e-3, 1e-3, 128, 8, _TEACHER), seeds=(0, 1, 2, 3, 4), steps=120, pairs=64, resamples=100,
)  # fmt: skip
QUICK = Plan(
    "deductor-60k-base",
    ways(3e-3, 1e-3, 16, 4, _TEACHER),
    seeds=(0,),
    warm=140,
    steps=8,
    every=2,
    proofs=300,
    asked=Deductions(RULES[:1], (1,), n=8, circuit=0, max_new_tokens=32),
    pairs=8,
    resamples=10,
)
PRESETS = {"quick": QUICK, "small": SMALL, "full": FULL}
