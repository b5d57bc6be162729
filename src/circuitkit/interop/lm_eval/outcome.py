"""What lm-eval found over several seeds: every response, means, standard errors, and what failed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from circuitkit.evaluation.outcome import OverSeeds
from circuitkit.interop.lm_eval.errors import HarnessError
from circuitkit.records import whole_file
from circuitkit.showing import Shown
from circuitkit.writing import write_json, write_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PROVENANCE = "provenance.json"
AIME = ("aime24", "aime25")
FAILURES = ("unextracted", "truncated", "cut")
_FORMAT = 1


@dataclass(frozen=True, repr=False)
class HarnessRun(Shown):
    """One task's responses with one seed.

    Attributes:
        task: its name.
        seed: what tokens were drawn with.
        source: where the questions come from.
        metrics: the task's metrics, those of which more is better.
        samples: a mapping a response and filter: doc, filter, target, read (what the filter gives), response, prompt,
            every metric, and unextracted, truncated, cut and n_tokens, None where there is no such thing.
        seconds: how long it took.
        rules: the hash of how the task asks and judges.
        batch_size: responses that were written at a time, on which drawn tokens depend.
    """

    task: str
    seed: int
    source: str
    metrics: Mapping[str, bool]
    samples: Sequence[Mapping[str, Any]]
    seconds: float
    rules: str = ""
    batch_size: int | str | None = None

    def save(self, folder: Path) -> None:
        """Write it into a folder, whole or not at all."""
        with whole_file(self.path(folder, self.task, self.seed)) as beside:
            beside.write_text(json.dumps({"format": _FORMAT, **asdict(self)}, ensure_ascii=False), encoding="utf-8")

    @staticmethod
    def path(folder: Path, task: str, seed: int) -> Path:
        """The file of a run."""
        return folder / f"{task}-seed-{seed}.json"

    @classmethod
    def load(cls, path: Path) -> HarnessRun:
        """Read it.

        Raises:
            HarnessError: the file is broken, or of another version.
        """
        told = _read(path, "format")
        if told.pop("format") != _FORMAT:
            raise HarnessError(f"{path} was written by a version of circuitkit that this one does not know")
        try:
            return cls(**told)
        except TypeError as error:
            raise HarnessError(f"{path} is no run of a task of lm-eval ({error})") from error


@dataclass(frozen=True, eq=False, repr=False)
class HarnessEvaluation(Shown):
    """What lm-eval found of a model on some tasks, with several seeds.

    Attributes:
        model: the model's name.
        runs: one for each task and seed.
        provenance: where it comes from.

    >>> samples = [{"doc": 0, "filter": "none", "exact_match": right, "truncated": False} for right in (1, 0)]
    >>> runs = [HarnessRun("a", seed, "", {"exact_match": True}, [samples[seed]], 0.1) for seed in (0, 1)]
    >>> HarnessEvaluation("m", tuple(runs)).over_seeds("a")
    OverSeeds(mean=0.5, standard_error=0.5, n=2)
    """

    model: str
    runs: tuple[HarnessRun, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.runs:
            raise HarnessError("there are no runs: name a task and a seed")

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks, in the order in which they were run."""
        return tuple(dict.fromkeys(run.task for run in self.runs))

    @cached_property
    def frame(self) -> pd.DataFrame:
        """A row a response and filter: task, seed, what was read out of it, metrics, what failed, and the texts."""
        rows = [{"task": run.task, "seed": run.seed, **sample} for run in self.runs for sample in run.samples]
        return pd.DataFrame(rows)

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row a task, filter and metric: mean over seeds, standard error, and the shares that failed."""
        rows = []
        for (task, named), frame in self.frame.groupby(["task", "filter"], sort=False):
            failed: dict[str, Any] = {name: _share(frame, name) for name in FAILURES}
            for metric in self._metrics(str(task)):
                mean, error, seeds = self.over_seeds(str(task), metric, str(named))
                about = {"task": task, "filter": named, "metric": metric, "n": frame["doc"].nunique(), "seeds": seeds}
                rows.append(about | {"mean": mean, "standard_error": error} | failed)
        return pd.DataFrame(rows)

    def _metrics(self, task: str) -> list[str]:
        return list(next(run for run in self.runs if run.task == task).metrics)

    def over_seeds(self, task: str, metric: str | None = None, filter: str | None = None) -> OverSeeds:
        """A metric's mean over seeds, and its standard error: sd (n − 1 below) / √n, NaN with a single seed.

        Args:
            task: which task.
            metric: the task's first if None.
            filter: how answers were read; the task's first filter if None, of GPQA strict-match.

        Raises:
            HarnessError: there is no such task, metric or filter.
        """
        frame = self.frame[self.frame["task"] == task]
        if frame.empty:
            raise HarnessError(f"there is no task {task!r}; there are {', '.join(self.tasks)}")
        metric = metric or self._metrics(task)[0]
        if metric not in self._metrics(task):
            raise HarnessError(f"{task} has no metric {metric!r}; it has {', '.join(self._metrics(task))}")
        filters = frame["filter"].unique().tolist()
        filter = filter or filters[0]
        if filter not in filters:
            raise HarnessError(f"{task} has no filter {filter!r}; it has {', '.join(filters)}")
        return OverSeeds.of(frame[frame["filter"] == filter].groupby("seed")[metric].mean().to_numpy(dtype=float))

    def pooled(self, *tasks: str, metric: str | None = None) -> OverSeeds:
        """The mean of several tasks' means, and its error 1/k · √(SE₁² + … + SE_k²); of both AIME if none is named.

        For AIME 2024 and 2025, of thirty problems each, that is ½ · √(SE24² + SE25²).

        Raises:
            HarnessError: a task is not there, or tasks differ in their seeds or in their number of questions.
        """
        each = [self.over_seeds(task, metric) for task in tasks or AIME]
        asked = {self.frame[self.frame["task"] == task]["doc"].nunique() for task in tasks or AIME}
        if len({one.n for one in each}) > 1 or len(asked) > 1:
            raise HarnessError("tasks are pooled that have as many seeds and questions each, and these do not")
        error = float(np.sqrt(sum(one.standard_error**2 for one in each)) / len(each))
        return OverSeeds(float(np.mean([one.mean for one in each])), error, each[0].n)

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw each task's means with their standard errors, and the shares that failed."""
        from circuitkit import plots

        return plots.harness_means(self, axes=axes)

    def _strongest(self) -> pd.DataFrame:
        return self.table

    def save(self, folder: str | Path) -> Path:
        """Write the runs, the table and provenance into a folder, each whole or not at all, and give the folder."""
        folder = Path(folder)
        for run in self.runs:
            run.save(folder)
        self.save_beside(folder)
        return folder

    def save_beside(self, folder: Path) -> None:
        """Write all but the runs, which are in the folder already."""
        write_table(folder / "table.csv", self.table)
        told = {"model": self.model, "runs": [[run.task, run.seed] for run in self.runs]}
        write_json(folder / PROVENANCE, {**told, "provenance": dict(self.provenance)})

    @classmethod
    def load(cls, folder: str | Path) -> HarnessEvaluation:
        """Read a saved evaluation, or one that was run with this folder as `out`.

        Raises:
            HarnessError: there is none, it has not ended, or a file of it is broken.
        """
        folder = Path(folder)
        if not (folder / PROVENANCE).exists():
            raise HarnessError(f"{folder} holds no evaluation by lm-eval that has ended: run it again, and it goes on")
        told = _read(folder / PROVENANCE, "runs")
        if absent := [(task, seed) for task, seed in told["runs"] if not HarnessRun.path(folder, task, seed).exists()]:
            raise HarnessError(f"{folder} lacks the run of {absent[0][0]} with seed {absent[0][1]}")
        runs = tuple(HarnessRun.load(HarnessRun.path(folder, task, seed)) for task, seed in told["runs"])
        return cls(told["model"], runs, told["provenance"])


def _read(path: Path, field: str) -> dict[str, Any]:
    """What a file tells that has this field, as all of its kind do."""
    try:
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise HarnessError(f"{path} cannot be read ({error}): take it away, and run it again") from error
    if field not in told:
        raise HarnessError(f"{path} is of something else than lm-eval's tasks: it has no {field!r}")
    return told


def _share(frame: pd.DataFrame, column: str) -> float:
    """The share of responses of which something holds; NaN where the task has no such thing."""
    if column not in frame or frame[column].isna().all():
        return float("nan")
    return float(frame[column].astype(float).mean())
