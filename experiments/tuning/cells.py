"""The cells of `finetuning.py`: a model is trained in one, and asked in another.

A training keeps its own folder, in which it goes on where it was cut short; what a model answered is kept as one bit a
question, so that models are compared question by question.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sweeps import as_text

import circuitkit as ck
from circuitkit.tasks.prontoqa.judges import PROOF_JUDGES
from circuitkit.tasks.task import Item, Task
from circuitkit.training import Example, Trained
from tuning.asking import NEXT_QUESTION, Asked
from tuning.texts import Data

Cell = dict[str, str | float]

WORDS = ("Assume", "Since", "contradicts")
"""Words that proofs by cases and by contradiction need and no question has."""
GRPO_SETTINGS = ("group", "temperature", "judge", "partial", "beta", "max_new_tokens")
"""What `Reinforcing` names as `ck.train` does."""


@dataclass(frozen=True)
class Tuning:
    """How a model is fine-tuned: the preset `thresholds`, and what is set otherwise.

    Attributes:
        learning_rate: peak; the published 2e-5 is for hundreds of millions of parameters.
        epochs: at most; the one of the best validation loss counts.
        context: tokens that concatenated texts are cut into; the model's own context where each has a row of its own.
        batch: such pieces in a step.
        steps: in place of epochs.
        more: further settings of `ck.train`.
    """

    learning_rate: float = 2e-5
    epochs: int = 100
    context: int | None = 1024
    batch: int = 8
    steps: int | None = None
    more: dict[str, Any] = field(default_factory=dict)

    def settings(self) -> dict[str, Any]:
        """As keyword arguments of `ck.train`."""
        length: dict[str, Any] = {"epochs": self.epochs}
        if self.steps is not None:
            length = {"max_steps": self.steps, "evaluate_every": self.steps}
        return {
            "learning_rate": self.learning_rate,
            "context": self.context,
            "batch_size": self.batch,
            **length,
            **self.more,
        }


@dataclass(frozen=True)
class Reinforcing:
    """How a model is trained by GRPO.

    Attributes:
        learning_rate: constant.
        steps: of the training.
        batch: responses in a step.
        group: responses to a question, which are compared with one another.
        temperature: that responses are drawn with.
        judge: who rewards.
        partial: what earns a part of the reward.
        beta: weight of the divergence from the model as it was.
        max_new_tokens: where a response is broken off.
    """

    learning_rate: float = 1e-6
    steps: int = 100
    batch: int = 64
    group: int = 16
    temperature: float = 1.0
    judge: str = "strict"
    partial: dict[str, float] = field(default_factory=dict)
    beta: float = 0.0
    max_new_tokens: int = 160


def fine_tuned(model: ck.Model, data: Data, how: Tuning, seed: int, folder: str) -> Cell:
    """Fine-tune a model on proofs; its weights stay in the folder, under `model`."""
    training, validation = data.split()
    trained = ck.train(
        model,
        training,
        out=folder,
        preset="thresholds",
        validation=validation,
        seed=seed,
        progress=False,
        **how.settings(),
    )
    return {**told(trained), "duplicated": json.dumps(data.duplicated), "validated_on": len(validation)}


def reinforced(model: ck.Model, data: Data, how: Reinforcing, seed: int, folder: str) -> Cell:
    """Train a model by GRPO on the questions of the training set, a judge being the reward."""
    training, _ = data.split()
    trained = ck.train(
        model,
        as_task(training),
        out=folder,
        method="grpo",
        seed=seed,
        progress=False,
        learning_rate=how.learning_rate,
        max_steps=how.steps,
        batch_size=how.batch,
        schedule="constant",
        rule="last",
        **{name: value for name, value in asdict(how).items() if name in GRPO_SETTINGS},
    )
    return {**told(trained), "duplicated": json.dumps(data.duplicated), "validated_on": 0}


def as_task(examples: Sequence[Example]) -> Task:
    """Training questions as a task that is asked and judged, with the separator of the training texts."""
    items = []
    for example in examples:
        rule, hops = example.key.split("/")[:2]
        groups: dict[str, str | int] = {"rule": rule, "hops": int(hops)}
        items.append(Item(example.key, f"Q: {example.question}\nA:", example.chain, groups=groups))
    return Task("fine-tuning/training questions", tuple(items), PROOF_JUDGES, stop=(NEXT_QUESTION,))


def told(trained: Trained) -> Cell:
    """What a training's table row says."""
    curve, last, weights = trained.curve, max(trained.checkpoints), trained.folder / "model"
    return {
        "chosen": trained.chosen,
        "steps": int(curve["step"].max()),
        "trainable": trained.trainable,
        "examples": trained.examples["n"],
        "training_seconds": trained.seconds,
        "weights": str(weights),
        # Where the last step is the chosen one, its folder is too, so that the same model is asked once.
        "last_weights": str(weights if last == trained.chosen else trained.checkpoints[last]),
        "curve": curve.to_json(orient="split"),
    }


def proved(model: ck.Model, asked: Asked, decoding: str) -> Cell:
    """What a model answers: for each rule and number of hops, a bit a question for every judge and every word."""
    # As many exemplars as its context holds.
    shots = None if asked.shots else 0
    found = ck.evaluate(model, asked.task(), decoding=decoding, shots=shots, progress=False)
    frame = found.frame
    for word in WORDS:
        frame[word] = frame["response"].str.contains(word, regex=False)
    columns = [*found.judges, "unparseable", "truncated", *WORDS]
    answers = [
        {"rule": rule, "hops": int(hops), **{name: as_text(part[name]) for name in columns}}
        for (rule, hops), part in frame.groupby(["rule", "hops"], sort=False)
    ]
    return {
        "parameters": sum(weights.numel() for weights in model.hf.parameters()),
        "shots_given": found.shots,
        "answers": json.dumps(answers),
        "shown": json.dumps(frame.groupby("rule", sort=False)["response"].first().to_dict()),
    }
