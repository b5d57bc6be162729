"""How many responses of each level several models or conditions give, with some responses of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from circuitkit import statistics
from circuitkit.json_files import JsonFile
from circuitkit.sfn.response_levels.criterion import LEVELS, Level
from circuitkit.sfn.response_levels.errors import LevelError
from circuitkit.sfn.response_levels.outcome import Graded, Levels, checked, graded_from_json
from circuitkit.showing import Shown

_FILE = JsonFile("level_table.json", "a table of levels", LevelError)

KEPT = 3
"""Responses that are kept of each condition and level."""


@dataclass(frozen=True)
class Condition:
    """The responses under one condition.

    Attributes:
        told: what tells it from the others, such as which modules were merged.
        counts: how many responses are of each level.
        kept: some of each level.
    """

    told: Mapping[str, str | int]
    counts: Mapping[Level, int]
    kept: tuple[Graded, ...]

    @classmethod
    def of(cls, told: Mapping[str, str | int], levels: Levels, kept: int = KEPT) -> Condition:
        """The levels of a condition's responses, of each the first few kept.

        Raises:
            LevelError: a negative number is to be kept.
        """
        if kept < 0:
            raise LevelError(f"{kept} responses of a level cannot be kept: give 0 or more")
        by_level = {level: [each for each in levels.graded if each.level == level] for level in LEVELS}
        some = [each for level in LEVELS for each in by_level[level][:kept]]
        return cls(told, {level: len(by_level[level]) for level in LEVELS}, tuple(some))

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "told": dict(self.told),
            "counts": dict(self.counts),
            "kept": [asdict(each) for each in self.kept],
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Condition:
        """Of JSON."""
        counts = {checked(level): int(n) for level, n in told["counts"].items()}
        return cls(told["told"], counts, tuple(graded_from_json(each) for each in told["kept"]))


@dataclass(frozen=True, eq=False, repr=False)
class LevelTable(Shown):
    """How many responses of each level there are under each of several conditions, with some of each.

    Of merges and destructions there are many conditions, and all their responses would be too many to keep.

    Attributes:
        title: what was done.
        conditions: in the order of the table.
        provenance: where it comes from.

    >>> pairs = [("Q: Rex is a wumpus. Prove: Rex is a wumpus.\\nA:", " Rex is a wumpus."), ("Q: Fae is shy.", " .")]
    >>> found = ck.sfn.levels(pairs, ck.load("deductor-130k"), progress=False)
    >>> ck.sfn.LevelTable("Toys", [ck.sfn.Condition.of({"merged": "o_proj"}, found)]).frame["I"].tolist()
    [1]
    """

    title: str
    conditions: tuple[Condition, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "conditions", tuple(self.conditions))
        if not self.conditions:
            raise LevelError("a table of levels needs a condition: give Condition.of(…) of one or more")
        if len({tuple(each.told) for each in self.conditions}) > 1:
            raise LevelError("all conditions of a table are told apart by the same names, in one order")

    @property
    def groups(self) -> tuple[str, ...]:
        """What conditions are told apart by."""
        return tuple(self.conditions[0].told)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """A row a condition: how many responses are of each level, and the share of IV with Wilson's 95 % interval."""
        rows = []
        for each in self.conditions:
            n = sum(each.counts.values())
            low, high = statistics.wilson(each.counts["IV"], n) if n else (float("nan"), float("nan"))
            right = {"right": each.counts["IV"] / n if n else float("nan"), "low": low, "high": high, "n": n}
            row: dict[str, Any] = {**each.told, **{str(level): count for level, count in each.counts.items()}, **right}
            rows.append(row)
        return pd.DataFrame(rows)

    def _says(self) -> list[str]:
        n = len(self.conditions)
        known = self.frame.dropna(subset=["right"]).sort_values("right", ascending=False, kind="stable")
        ends = known.iloc[[0, -1]] if len(known) > 1 else known
        told = [
            f"{', '.join(str(row[name]) for name in self.groups)}: {100 * row['right']:.3g} % "
            f"({100 * row['low']:.3g} to {100 * row['high']:.3g})"
            for row in ends.to_dict("records")
        ]
        right = f" Right (level IV): {' down to '.join(told)}; 95 % intervals." if told else ""
        return [f"How many responses are of which level under {n} condition{'s' * (n != 1)}.{right}"]

    def save(self, path: str | Path) -> Path:
        """Write it as JSON, whole or not at all, and give the path; a folder gets `level_table.json`.

        Raises:
            LevelError: the file has another suffix.
        """
        told = {
            "title": self.title,
            "conditions": [each.to_json() for each in self.conditions],
            "provenance": dict(self.provenance),
        }
        return _FILE.write(path, told)

    @classmethod
    def load(cls, path: str | Path) -> LevelTable:
        """Read what was saved.

        Raises:
            LevelError: there is no such file, it is cut short, or it holds something else.
        """
        return _FILE.read(path, cls._from_json)

    @classmethod
    def _from_json(cls, told: Mapping[str, Any]) -> LevelTable:
        try:
            conditions = tuple(Condition.from_json(each) for each in told["conditions"])
            return cls(told["title"], conditions, told["provenance"])
        except LevelError as error:
            # Its reader names the file.
            raise ValueError(str(error)) from error
