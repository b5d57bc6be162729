"""Levels of responses, each with its evidence, and what a person has corrected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from circuitkit import statistics
from circuitkit.json_files import JsonFile
from circuitkit.sfn.response_levels.agreement import Agreement
from circuitkit.sfn.response_levels.answers import Answer
from circuitkit.sfn.response_levels.calibration import Calibration
from circuitkit.sfn.response_levels.criterion import LEVELS, Level
from circuitkit.sfn.response_levels.errors import LevelError
from circuitkit.sfn.response_levels.evidence import Evidence
from circuitkit.showing import Shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Key = str | tuple[str, int, int]
_FILE = JsonFile("levels.json", "levels", LevelError)


@dataclass(frozen=True)
class Overruling:
    """What a person put in the place of the criterion's level."""

    level: Level
    why: str
    who: str
    time: str


@dataclass(frozen=True)
class Graded:
    """A response, what was measured in it, and its level.

    Attributes:
        answer: the response.
        evidence: what was measured.
        criterion: the level that the criterion gives.
        reason: why.
        on_task: from 0, as an answer to another question, to 1, as one to its own.
        overruling: what a person put in its place, if anything.
    """

    answer: Answer
    evidence: Evidence
    criterion: Level
    reason: str
    on_task: float
    overruling: Overruling | None = None

    @property
    def level(self) -> Level:
        """Its level: a person's, where one was given."""
        return self.criterion if self.overruling is None else self.overruling.level

    @property
    def name(self) -> tuple[str, int, int]:
        """What tells it from the others."""
        return (self.answer.key, self.answer.sample, self.answer.seed)

    @property
    def row(self) -> dict[str, Any]:
        """All of it as a row of a table."""
        answer, over = self.answer, self.overruling
        return {
            "key": answer.key,
            "sample": answer.sample,
            "seed": answer.seed,
            **answer.groups,
            "level": self.level,
            "reason": self.reason if over is None else over.why,
            "by": "criterion" if over is None else over.who,
            "criterion": self.criterion,
            "right": answer.right,
            "on_task": self.on_task,
            **asdict(self.evidence),
            "response": answer.text,
            "prompt": answer.prompt,
        }


@dataclass(frozen=True, eq=False, repr=False)
class Levels(Shown):
    """The level of each response, with its evidence.

    Attributes:
        model: whose responses they are.
        graded: each response with its evidence and level, in the order in which they were given.
        calibration: where the borders lie, and of which reference.
        provenance: where it comes from.

    >>> pairs = [("Q: Rex is a wumpus. Prove: Rex is a wumpus.\\nA:", " Rex is a wumpus.")]
    >>> pairs += [("Q: Fae is shy.\\nA:", " . .")]
    >>> found = ck.sfn.levels(pairs, ck.load("deductor-130k"), progress=False)
    >>> found.level("1"), found.overrule("1", "II", "two full stops are a sentence", who="A. Reader").level("1")
    ('I', 'II')
    """

    model: str
    graded: tuple[Graded, ...]
    calibration: Calibration
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """A row a response: its level, why, by whom, the evidence, and the texts."""
        return pd.DataFrame([each.row for each in self.graded])

    def level(self, key: Key) -> Level:
        """A response's level.

        Raises:
            LevelError: there is no such response, or there are several.
        """
        return self.graded[self._at(key)].level

    def overrule(self, key: Key, level: str, why: str, who: str = "a person") -> Levels:
        """The same with a person's level for one response; the criterion's own is kept beside it.

        Args:
            key: the response's, as a triple of key, sample and seed where a key has several.
            level: I, II, III or IV.
            why: what tells it.
            who: says so.

        Raises:
            LevelError: there is no such response or level, there are several, or no reason is given.
        """
        at = self._at(key)
        if not why.strip():
            raise LevelError(f"say why response {key!r} is of level {level}: a reader of the table has to know")
        over = Overruling(checked(level), why, who, datetime.now(UTC).isoformat(timespec="seconds"))
        changed = replace(self.graded[at], overruling=over)
        return replace(self, graded=(*self.graded[:at], changed, *self.graded[at + 1 :]))

    def _at(self, key: Key) -> int:
        found = [at for at, each in enumerate(self.graded) if key in (each.name, each.answer.key)]
        if not found:
            raise LevelError(f"there is no response {key!r}; the first one is {self.graded[0].answer.key!r}")
        if len(found) > 1:
            raise LevelError(
                f"{key!r} has {len(found)} responses: name one by key, sample and seed, as {self.graded[found[0]].name}"
            )
        return found[0]

    @property
    def shares(self) -> pd.DataFrame:
        """The share of each level, with Wilson's 95 % interval."""
        return self.by()

    def by(self, *groups: str) -> pd.DataFrame:
        """The share of each level in each group of items, with Wilson's 95 % interval.

        Raises:
            LevelError: the items have no such group.
        """
        known = [*{name: None for each in self.graded for name in each.answer.groups}, "seed", "sample"]
        if missing := [name for name in groups if name not in known]:
            raise LevelError(f"these responses have no group {missing[0]!r}; they have {', '.join(known)}")
        parts = self.frame.groupby(list(groups), sort=False, dropna=False) if groups else [((), self.frame)]
        rows = []
        for values, part in parts:
            for level in LEVELS:
                hits, n = int((part["level"] == level).sum()), len(part)
                low, high = statistics.wilson(hits, n)
                told = {"level": level, "share": hits / n, "low": low, "high": high, "hits": hits, "n": n}
                rows.append({**dict(zip(groups, values, strict=True)), **told})
        return pd.DataFrame(rows)

    def agreement(self, labels: Mapping[str, str] | Sequence[str]) -> Agreement:
        """How well these levels agree with labels given by hand, for each response or by key.

        Raises:
            LevelError: another number of labels, a label of no response, or no level.
        """
        if isinstance(labels, Mapping):
            places = {key: self._at(key) for key in labels}
            given, own = list(labels.values()), [self.graded[at].level for at in places.values()]
        else:
            given, own = list(labels), [each.level for each in self.graded]
        if len(given) != len(own):
            raise LevelError(f"there are {len(own)} responses and {len(given)} labels: give one for each")
        return Agreement(tuple(own), tuple(checked(each) for each in given))

    def plot(self, *groups: str, axes: Axes | None = None) -> Axes:
        """Draw the share of each level, for each combination of groups (all that the items have, if not given)."""
        from circuitkit.plots.sfn_levels import level_shares

        return level_shares(self, *groups, axes=axes)

    def _strongest(self) -> pd.DataFrame:
        return self.shares

    @property
    def groups(self) -> tuple[str, ...]:
        """What the responses are told apart by."""
        return tuple({name: None for each in self.graded for name in each.answer.groups})

    def save(self, path: str | Path) -> Path:
        """Write all of it as JSON, whole or not at all, and give the path; a folder gets `levels.json`.

        Raises:
            LevelError: the file has another suffix.
        """
        told = {
            "model": self.model,
            "calibration": self.calibration.to_json(),
            "provenance": dict(self.provenance),
            "graded": [asdict(each) for each in self.graded],
        }
        return _FILE.write(path, told, indent=1)

    @classmethod
    def load(cls, path: str | Path) -> Levels:
        """Read what was saved.

        Raises:
            LevelError: there is no such file, it is cut short, or it holds something else.
        """
        return _FILE.read(
            path,
            lambda told: cls(
                told["model"],
                tuple(graded_from_json(each) for each in told["graded"]),
                Calibration.from_json(told["calibration"]),
                told["provenance"],
            ),
        )


def checked(level: str) -> Level:
    """A level by its name.

    Raises:
        LevelError: there is no such level.
    """
    for known in LEVELS:
        if known == level:
            return known
    raise LevelError(f"there is no level {level!r}: levels are {', '.join(LEVELS)}")


def graded_from_json(told: Mapping[str, Any]) -> Graded:
    """A response with its evidence and level, of JSON."""
    over = told["overruling"]
    return Graded(
        Answer(**told["answer"]),
        Evidence(**told["evidence"]),
        checked(told["criterion"]),
        told["reason"],
        told["on_task"],
        None if over is None else Overruling(**over),
    )
