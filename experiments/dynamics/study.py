"""The run of `training_dynamics.py`: the common start, every training, and every checkpoint looked at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import pandas as pd
from emergence.prompts import Written, deductions
from emergence.study import Running

import circuitkit as ck
from circuitkit import studies
from circuitkit.circuits import Graph
from circuitkit.studies import Pretrained
from dynamics import cells
from dynamics.plans import Method, Plan


class Run(NamedTuple):
    """One training: its method and seed."""

    method: Method
    seed: int

    def __str__(self) -> str:
        return f"{self.method}, seed {self.seed}"


@dataclass(frozen=True)
class Followed:
    """A training that was looked at.

    Attributes:
        run: which.
        told: a row a checkpoint, the start (step 0) first: accuracy with its interval, stability, noise, reward.
        graphs: circuits, cut, by step; the start's at 0.
    """

    run: Run
    told: pd.DataFrame
    graphs: Mapping[int, Graph]

    @cached_property
    def cohorts(self) -> ck.circuits.Cohorts:
        """Heads over the checkpoints."""
        later = {step: graph for step, graph in self.graphs.items() if step}
        return ck.circuits.cohorts(later, base=self.graphs[0])


@dataclass(frozen=True)
class Study:
    """A plan and how it is run."""

    plan: Plan
    running: Running

    @cached_property
    def start(self) -> str:
        """What all trainings start from, by name."""
        plan = self.plan
        if not plan.warm:
            return plan.base
        parameters = {
            "base": plan.base,
            "rules": plan.rules,
            "proofs": plan.proofs,
            "way": plan.warming,
            "steps": plan.warm,
            "folder": str(self.running.out / "trainings" / "start"),
        }
        return str(self.running.rows([studies.Cell(cells.warmed, parameters)])["weights"].iloc[0])

    @property
    def runs(self) -> list[Run]:
        """Every training."""
        return [Run(method, seed) for method in self.plan.ways for seed in self.plan.seeds]

    def trainings(self) -> pd.DataFrame:
        """A row a training: its checkpoints and curve."""
        plan = self.plan
        planned = [
            studies.Cell(
                cells.trained,
                {
                    "start": self.start,
                    "method": run.method,
                    "rules": plan.rules,
                    "proofs": plan.proofs,
                    "way": plan.ways[run.method],
                    "steps": plan.steps,
                    "every": plan.every,
                    "seed": run.seed,
                    "folder": str(self.running.out / "trainings" / str(run)),
                },
            )
            for run in self.runs
        ]
        return self.running.rows(planned)

    @cached_property
    def written(self) -> Written:
        """The same pairs of prompts for every checkpoint."""
        tokenizer = Pretrained(self.plan.base).load().tokenizer
        return deductions(tokenizer, self.plan.pairs, seed=0)

    def followed(self) -> list[Followed]:
        """Every training, with a circuit and an accuracy at each checkpoint."""
        trainings = self.trainings()
        steps = [
            {0: self.start}
            | {int(step): path for step, path in sorted(json.loads(told).items(), key=lambda each: int(each[0]))}
            for told in trainings["checkpoints"]
        ]
        planned, places, keys = [], [], {}
        for run, paths in zip(self.runs, steps, strict=True):
            for step, path in paths.items():
                key = "start" if step == 0 else f"{run}, step {step}"
                if key not in keys:
                    keys[key] = len(planned)
                    planned.append(self._measured(path, key))
                places.append(keys[key])
        table = self.running.rows(planned).iloc[places].reset_index(drop=True)
        found, at = [], 0
        for run, paths, curve in zip(self.runs, steps, trainings["curve"], strict=True):
            own = table.iloc[at : at + len(paths)].reset_index(drop=True)
            at += len(paths)
            told = own.assign(method=run.method, seed=run.seed, step=list(paths), reward=_rewards(curve, list(paths)))
            graphs = {
                step: self.plan.recipe.cut(Graph.load(path)) for step, path in zip(paths, own["graph"], strict=True)
            }
            found.append(Followed(run, told.drop(columns="graph"), graphs))
        return found

    def _measured(self, path: str, name: str) -> studies.Cell:
        return studies.Cell(
            cells.measured,
            {
                "model": Pretrained(path),
                "written": self.written,
                "recipe": self.plan.recipe,
                "asked": self.plan.asked,
                "resamples": self.plan.resamples,
                "seed": 0,
                "path": str(self.running.out / "graphs" / f"{name}.safetensors"),
            },
        )


def _rewards(curve: str, steps: list[int]) -> list[float]:
    """The mean reward of the responses drawn since the checkpoint before; NaN where nothing is rewarded."""
    logged = pd.DataFrame(json.loads(curve))
    if "reward" not in logged:
        return [float("nan")] * len(steps)
    ends = [0, *steps]
    return [
        float(logged.loc[(logged["step"] > before) & (logged["step"] <= step), "reward"].mean())
        for before, step in zip(ends, steps, strict=False)
    ]
