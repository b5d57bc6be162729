"""What an evaluation found: every response, and the shares, intervals and tables that are made of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from circuitkit import statistics
from circuitkit.evaluation.errors import EvaluationError
from circuitkit.evaluation.responses import Response, read_responses
from circuitkit.records import whole_file
from circuitkit.showing import Shown
from circuitkit.tasks.task import Item
from circuitkit.writing import write_json, write_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RESPONSES, EVALUATION = "responses.jsonl", "evaluation.json"
_FORMAT = 1
_OWN = (
    "key",
    "sample",
    "seed",
    "gold",
    "said",
    "unparseable",
    "truncated",
    "n_tokens",
    "seconds",
    "response",
    "prompt",
)


class Share(NamedTuple):
    """A share of responses and its 95 % interval.

    Attributes:
        value: the share, from 0 to 1.
        low, high: the ends of its interval: Wilson's where each item has one response; where it has several, a
            bootstrap's over whole items, or Wilson's of items where the responses to all of them count, or to none.
        hits, n: responses that count, and all.
    """

    value: float
    low: float
    high: float
    hits: int
    n: int

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % ({100 * self.low:.1f} to {100 * self.high:.1f}, {self.hits} of {self.n})"


class OverSeeds(NamedTuple):
    """An accuracy's mean over seeds and its standard error, NaN with a single seed."""

    mean: float
    standard_error: float
    n: int

    @classmethod
    def of(cls, by_seed: np.ndarray[Any, Any]) -> OverSeeds:
        """Of the accuracy with each seed; the error is of their standard deviation, n − 1 below.

        >>> OverSeeds.of(np.array([0.0, 1.0]))
        OverSeeds(mean=0.5, standard_error=0.5, n=2)
        """
        n = len(by_seed)
        error = float(by_seed.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
        return cls(float(by_seed.mean()), error, n)


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation(Shown):
    """A model's responses to a task, judged.

    Attributes:
        model: the model's name.
        task: the task's.
        items: the questions that were asked.
        judges: the judges' names, that of the headline first.
        responses: all responses, in the order of items, seeds and samples.
        decoding: the name of the way in which tokens were chosen.
        shots: exemplars before each question.
        exemplars: which, where all questions share theirs.
        chance: the accuracy of an answer drawn at random, where the task has one.
        provenance: where it comes from; under `written`, in which way the responses were written, and why.

    >>> from circuitkit.tasks import prontoqa
    >>> task = prontoqa.task("implication_elimination", shots=0, n=2)
    >>> found = ck.evaluate(ck.load("deductor-130k"), task, progress=False)
    >>> found.accuracy.n, found.unparseable.hits
    (2, 0)
    """

    model: str
    task: str
    items: tuple[Item, ...]
    judges: tuple[str, ...]
    responses: tuple[Response, ...]
    decoding: str
    shots: int
    exemplars: tuple[str, ...] = ()
    chance: float | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.responses:
            raise EvaluationError(f"{self.task}: there are no responses")
        check_columns(self.task, self.items, self.judges)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """A row a response: item, its groups and gold, a column a judge, what was said, length, time, and the texts."""
        items = {item.key: item for item in self.items}
        return pd.DataFrame([self._row(items[response.key], response) for response in self.responses])

    def _row(self, item: Item, response: Response) -> dict[str, Any]:
        headline = response.judgements[self.judges[0]]
        return {
            "key": response.key,
            "sample": response.sample,
            "seed": response.seed,
            **item.groups,
            "gold": item.gold,
            **{judge: response.judgements[judge].correct for judge in self.judges},
            "said": headline.said,
            "unparseable": headline.said is None,
            "truncated": response.truncated,
            "n_tokens": response.n_tokens,
            "seconds": response.seconds,
            "response": response.text,
            "prompt": response.prompt,
        }

    @property
    def accuracy(self) -> Share:
        """The share of responses that the headline's judge finds right (pass@1)."""
        return self.share(self.judges[0])

    @property
    def unparseable(self) -> Share:
        """The share of responses out of which the headline's judge could read no answer."""
        return _share(self.frame, "unparseable")

    @property
    def truncated(self) -> Share:
        """The share of responses that were broken off."""
        return _share(self.frame, "truncated")

    def share(self, judge: str) -> Share:
        """The share of responses that a judge finds right.

        Raises:
            EvaluationError: there is no such judge.
        """
        return _share(self.frame, self._judge(judge))

    def _judge(self, judge: str | None) -> str:
        if judge is not None and judge not in self.judges:
            raise EvaluationError(f"{self.task} has no judge {judge!r}; it has {', '.join(self.judges)}")
        return judge or self.judges[0]

    def by(self, *groups: str) -> pd.DataFrame:
        """A row for each combination of groups: accuracy with its interval, the other judges, and what failed.

        Raises:
            EvaluationError: the items have no such group.
        """
        grouping = [*{name: None for item in self.items for name in item.groups}, "seed", "sample"]
        if missing := [name for name in groups if name not in grouping]:
            raise EvaluationError(f"{self.task} has no group {missing[0]!r}; it has {', '.join(grouping)}")
        if not groups:
            return pd.DataFrame([_summary(self.frame, self.judges)])
        rows = []
        for values, frame in self.frame.groupby(list(groups), sort=False, dropna=False):
            rows.append({**dict(zip(groups, values, strict=True)), **_summary(frame, self.judges)})
        return pd.DataFrame(rows)

    def pass_at(self, k: int, judge: str | None = None) -> Share:
        """The share of items of which one of k responses is right: 1 − C(n−c, k)/C(n, k) of each item's n responses.

        Its interval is a bootstrap's over items (Wilson's where all are 0 or all 1); `hits` are the items with any
        right response. Source: Chen et al. 2021, arXiv 2107.03374.

        Raises:
            EvaluationError: k is under 1, an item has fewer responses, or there is no such judge.
        """
        if k < 1:
            raise EvaluationError(f"pass@{k} is of no response: give a k of 1 or more")
        right = self.frame.groupby("key", sort=False)[self._judge(judge)].agg(["sum", "count"])
        if int(right["count"].min()) < k:
            raise EvaluationError(
                f"pass@{k} needs {k} responses an item, and item {right['count'].idxmin()!r} has "
                f"{int(right['count'].min())}: evaluate with samples={k} or more"
            )
        each = np.array([statistics.pass_at_k(int(n), int(c), k) for c, n in right.itertuples(index=False)])
        low, high = _interval(each)
        return Share(float(each.mean()), low, high, int((right["sum"] > 0).sum()), len(each))

    def over_seeds(self, judge: str | None = None) -> OverSeeds:
        """The accuracy's mean over seeds, and its standard error (of their standard deviation, n − 1 below).

        Raises:
            EvaluationError: there is no such judge.
        """
        return OverSeeds.of(self.frame.groupby("seed")[self._judge(judge)].mean().to_numpy(dtype=float))

    def plot(self, *groups: str, axes: Axes | None = None) -> Axes:
        """Draw the accuracy and what failed, for each combination of groups (all that the items have, if not given)."""
        from circuitkit import plots

        return plots.accuracies(self, *groups, axes=axes)

    def _strongest(self) -> pd.DataFrame:
        return self.by(*self.groups)

    def save(self, folder: str | Path) -> Path:
        """Write responses, table and provenance into a folder, each whole or not at all, and give the folder."""
        folder = Path(folder)
        with whole_file(folder / RESPONSES) as beside:
            beside.write_text("".join(response.to_line() for response in self.responses), encoding="utf-8")
        self.save_beside(folder)
        return folder

    def save_beside(self, folder: Path, *groups: str) -> None:
        """Write all but the responses, which are in the folder already; the table by some groups, or by all."""
        write_table(folder / "table.csv", self.by(*(groups or self.groups)))
        write_json(folder / EVALUATION, self._head())

    @property
    def groups(self) -> tuple[str, ...]:
        """What the items are told apart by."""
        return tuple({name: None for item in self.items for name in item.groups})

    def _head(self) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "model": self.model,
            "task": self.task,
            "judges": list(self.judges),
            "decoding": self.decoding,
            "shots": self.shots,
            "exemplars": list(self.exemplars),
            "chance": self.chance,
            "items": [
                {"key": i.key, "question": i.question, "gold": i.gold, "groups": dict(i.groups)} for i in self.items
            ],
            "asked": [list(response.name) for response in self.responses],
            "provenance": dict(self.provenance),
        }

    @classmethod
    def load(cls, folder: str | Path) -> Evaluation:
        """Read a saved evaluation, or one that was run with this folder as `out`.

        Raises:
            EvaluationError: there is none, it has not ended, or a file of it is broken.
        """
        folder = Path(folder)
        path = folder / EVALUATION
        if not path.exists():
            begun = (folder / RESPONSES).exists()
            why = "has not ended: run it again, and it goes on" if begun else "is not there"
            raise EvaluationError(f"the evaluation in {folder} {why}")
        try:
            head = json.loads(path.read_text(encoding="utf-8"))
            if head.pop("format") != _FORMAT:
                raise EvaluationError(f"{path} was written by a version of circuitkit that this one does not know")
            asked = [tuple(name) for name in head.pop("asked")]
            items = tuple(Item(**item) for item in head.pop("items"))
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, EvaluationError):
                raise
            raise EvaluationError(f"{path} cannot be read ({error}): it is cut short or altered") from error
        responses = {response.name: response for response in read_responses(folder / RESPONSES)}
        if missing := [name for name in asked if name not in responses]:
            raise EvaluationError(f"{folder / RESPONSES} lacks the response to item {missing[0][0]!r}: it is cut short")
        head |= {name: tuple(head[name]) for name in ("judges", "exemplars")}
        return cls(items=items, responses=tuple(responses[name] for name in asked), **head)


def check_columns(task: str, items: Sequence[Item], judges: Sequence[str]) -> None:
    """Refuse groups and judges whose names are those of other columns.

    Raises:
        EvaluationError: one is.
    """
    groups = {name for item in items for name in item.groups}
    for what, taken in (("group", groups & {*_OWN, *judges}), ("judge", {*judges} & {*_OWN})):
        if taken:
            raise EvaluationError(
                f"{task} has a {what} {min(taken)!r}, which is another column's name: name it otherwise"
            )


def _summary(frame: pd.DataFrame, judges: Sequence[str]) -> dict[str, Any]:
    accuracy = _share(frame, judges[0])
    return {
        "n": accuracy.n,
        "accuracy": accuracy.value,
        "low": accuracy.low,
        "high": accuracy.high,
        **{judge: float(frame[judge].mean()) for judge in judges[1:]},
        "unparseable": float(frame["unparseable"].mean()),
        "truncated": float(frame["truncated"].mean()),
        "n_tokens": float(frame["n_tokens"].mean()),
        "seconds": float(frame["seconds"].mean()),
    }


def _share(frame: pd.DataFrame, column: str) -> Share:
    found = frame[column].to_numpy(dtype=bool)
    hits, n = int(found.sum()), len(found)
    keys = frame["key"].tolist()
    if len(set(keys)) == n:
        low, high = statistics.wilson(hits, n)
    else:
        low, high = _interval(frame.groupby("key", sort=False)[column].mean().to_numpy(dtype=float))
    return Share(hits / n, low, high, hits, n)


def _interval(by_item: np.ndarray[Any, Any]) -> tuple[float, float]:
    """Of a mean over items: a bootstrap's, or Wilson's over items where all are wholly wrong, or all wholly right.

    Draws of such items never differ, and yet another item may.
    """
    if len(by_item) < 2:
        return float("nan"), float("nan")
    if by_item.max() == 0 or by_item.min() == 1:
        return statistics.wilson(int(by_item.sum()), len(by_item))
    low, high = statistics.bootstrap_mean(by_item, seed=0)
    return float(low), float(high)
