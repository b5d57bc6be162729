"""The study of architecture against data: which decoders are trained, at which rates, and how they answer.

Every training is a cell of a sweep, so that a killed study goes on where it stopped.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from sweeps import ended_well
from torch import Tensor

import circuitkit as ck
from circuitkit.studies import Cell, Sweep, grid
from decoders.answers import answered, as_table
from decoders.shapes import ARCHITECTURES, PARAMETERS
from decoders.training import questions_hash, save_decoder, trained

TUNING_SEED = 1000
"""Apart from the study's seeds, so that no training is chosen for its luck."""


@dataclass(frozen=True)
class Plan:
    """What is trained and asked.

    Attributes:
        architectures: names, as `decoders.shapes` has them.
        questions: amounts of data, in distinct questions.
        seeds: of weights, questions and their order.
        rates: peak learning rates that are tried for each architecture.
        steps: of every training, whatever its amount of data.
        batch: questions a step.
        size: number of parameters, which all come near to.
        each: test questions of every kind for each model.
    """

    architectures: tuple[str, ...] = ARCHITECTURES
    questions: tuple[int, ...] = (1_000, 4_000, 16_000)
    seeds: tuple[int, ...] = (0, 1, 2)
    rates: tuple[float, ...] = (2e-3, 4e-3, 8e-3, 16e-3)
    steps: int = 1_000
    batch: int = 16
    size: int = PARAMETERS
    each: int = 25

    def __post_init__(self) -> None:
        for name in ("architectures", "questions", "seeds"):
            if len(set(values := getattr(self, name))) != len(values) or len(values) < 2:
                raise ValueError(f"{name}: two different ones at least are compared, not {values}")
        if TUNING_SEED in self.seeds:
            raise ValueError(f"seed {TUNING_SEED} is the tuning's: take another")
        if not self.rates or min(self.steps, self.batch, *self.questions) < 1:
            raise ValueError("learning rates, steps, questions a step and amounts of data are one at least")

    @property
    def tuned_on(self) -> int:
        """The amount of data that learning rates are tuned on: the middle one, or the larger of two."""
        return sorted(self.questions)[len(self.questions) // 2]

    def rounds(self, questions: int) -> float:
        """How often each question comes round."""
        return self.steps * self.batch / questions


QUICK = Plan(questions=(28, 56), seeds=(0, 1), rates=(4e-3, 8e-3), steps=6, batch=4, each=1)
"""Seconds long, for trying the study out; its models know nothing."""


@dataclass(frozen=True)
class Running:
    """Where and how the cells of the study run."""

    out: Path
    workers: int = 1
    progress: bool = True

    def sweep(self, cells: list[Cell], folder: str, version: str) -> Sweep:
        """Run cells, those that failed before too, and stop with their errors if any fail."""
        found = ck.sweep(
            cells,
            self.out / folder,
            workers=self.workers,
            retry_failed=True,
            progress=self.progress,
            version=version,
        )
        return ended_well(found)


def tune(plan: Plan, running: Running) -> pd.DataFrame:
    """Try every learning rate for every architecture: a row a trial, `chosen` where the validation loss is least."""
    cells = grid(
        trained,
        architecture=plan.architectures,
        questions=plan.tuned_on,
        seed=TUNING_SEED,
        learning_rate=plan.rates,
        steps=plan.steps,
        batch=plan.batch,
        size=plan.size,
    )
    frame = running.sweep(cells, "trainings", questions_hash()).frame
    least = frame.groupby("architecture")["validation_loss"].transform("min")
    return frame.assign(chosen=frame["validation_loss"] == least)


def train(plan: Plan, rates: dict[str, float], running: Running) -> tuple[pd.DataFrame, Sweep]:
    """Train every architecture on every amount of data with every seed; a row a training, in the order of the sweep."""
    cells = [
        cell
        for seed in plan.seeds
        for architecture in plan.architectures
        for cell in grid(
            trained,
            architecture=architecture,
            questions=plan.questions,
            seed=seed,
            learning_rate=rates[architecture],
            steps=plan.steps,
            batch=plan.batch,
            size=plan.size,
        )
    ]
    found = running.sweep(cells, "trainings", questions_hash())
    return found.frame, found


def saved(plan: Plan, models: pd.DataFrame, found: Sweep, out: Path) -> list[Path]:
    """Write every trained decoder into a folder of its own, and give the files of weights, in the table's order."""
    files = []
    for row, model in enumerate(models.to_dict("records")):
        name = f"{model['architecture'].replace(' ', '-').lower()}-{model['questions']}-seed{model['seed']}"
        weights = found.value(row, "weights")
        assert isinstance(weights, Tensor)  # as `trained` returns them
        save_decoder(model["architecture"], plan.size, weights, out / name)
        files.append(out / name / "model.safetensors")
    return files


def judge(plan: Plan, files: list[Path], running: Running) -> list[pd.DataFrame]:
    """Let every decoder prove the test questions: its judged answers, in the order of the files."""
    cells = grid(answered, weights=files, each=plan.each)
    return [as_table(text) for text in running.sweep(cells, "answers", questions_hash()).frame["answers"]]
