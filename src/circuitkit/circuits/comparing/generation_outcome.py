"""What changing heads does to what a model writes: accuracy and failures, by difficulty, beside random sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool

from circuitkit import statistics
from circuitkit.circuits.comparing.difficulty import (
    OWN_ACCURACY,
    Placed,
    by_group,
    by_own_accuracy,
    everything,
    usual_difficulty,
)
from circuitkit.circuits.comparing.failures import OUTCOMES
from circuitkit.circuits.comparing.generation_runs import ITSELF, GenerationRun
from circuitkit.circuits.comparing.generation_sentences import sentences
from circuitkit.circuits.comparing.margins import between_levels, measured_beside, rank_p
from circuitkit.circuits.errors import CircuitError
from circuitkit.json_files import JsonFile
from circuitkit.showing import Shown
from circuitkit.statistics.cells import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FILE = JsonFile("generation.json", "effects", CircuitError)


@dataclass(frozen=True, eq=False)
class GenerationEffects(Shown):
    """Answers of a model while sets of heads were ablated or scaled, and while random sets in their place were.

    Printed, it tells in sentences what each change did to accuracy, beside what random sets do, on hard and on easy
    questions, and how answers failed.

    Attributes:
        model, task, judge: who answered what, and whose verdict counts.
        items: the questions' keys.
        groups: what questions are told apart by: of each group, a value a question.
        answers: of each question, in each run.
        intact: what the unchanged model answered.
        runs: what it answered under every change.
        provenance: where it comes from.
    """

    model: str
    task: str
    judge: str
    items: tuple[str, ...]
    groups: Mapping[str, tuple[str | int, ...]]
    answers: int
    intact: GenerationRun
    runs: tuple[GenerationRun, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """A row a set and way: accuracy before and after, the difference, p, and how it stands among its controls.

        Columns are those of `margins.measured_beside`; `p_corrected` and `p_controls_corrected` are after Holm, over
        all rows of the table, as in every table here.
        """
        return _corrected(
            [self._head(run) | self._measured(run, everything(len(self.items), self.answers)) for run in self._own]
        )

    def by(self, difficulty: str | None = None) -> pd.DataFrame:
        """A row a set, way and level of difficulty, easiest first: the columns of `frame`, and the level.

        Args:
            difficulty: a group of the questions, such as "hops", or "own accuracy": how often the intact model is right
                on a question, cross-fitted. Hops if there are several, else the model's own accuracy, if None.

        Raises:
            CircuitError: there is no such group, or nothing that tells how hard questions are.
        """
        levels = self._levels(difficulty)
        return _corrected(
            [
                self._head(run) | {"level": placed.level} | self._measured(run, placed)
                for run in self._own
                for placed in levels
            ]
        )

    def failures(self, difficulty: str | None = None, *, all_levels: bool | None = None) -> pd.DataFrame:
        """A row a set, way, level and outcome ("right", "loop", …): its share before and after, as in `frame`.

        Args:
            difficulty: as in `by`.
            all_levels: take all questions together, whatever their level; if None, where no difficulty is named. False
                takes the usual difficulty, as `by` does.

        Raises:
            CircuitError: as `by` does, or a difficulty is named of all levels together.
        """
        if all_levels and difficulty is not None:
            raise CircuitError(f"all_levels takes questions of each {difficulty} together: leave one of the two out")
        together = difficulty is None if all_levels is None else all_levels
        levels = [everything(len(self.items), self.answers)] if together else self._levels(difficulty)
        rows = []
        for run in self._own:
            for placed in levels:
                for outcome in OUTCOMES:
                    before, after = self.intact.ended(outcome), run.ended(outcome)
                    controls = [each.ended(outcome) for each in self._controls(run)]
                    told = {"level": placed.level, "outcome": outcome}
                    rows.append(self._head(run) | told | self._beside(before, after, controls, placed))
        return _corrected(rows)

    def trade(self, difficulty: str | None = None) -> pd.DataFrame:
        """A row a set and way: what it does on the hardest questions, and on the easiest, and whether it trades them.

        `difference` is the effect on the hardest less that on the easiest, with a bootstrap's interval and the `p` of a
        permutation of levels over questions; `p_controls` is its rank among those of the random sets. Read the latter:
        where the intact model is right on all easy questions and on no hard one, any change can only lose there and
        gain here, so that the difference is positive whatever is changed. `trades` says that the effect is surely above
        0 on the one and surely below 0 on the other (95 % intervals). Heads that over-think help on hard questions and
        harm on easy ones: amplified, their effect is above 0 on the hardest; ablated, on the easiest.

        Raises:
            CircuitError: as `by` does, or there is one level alone.
        """
        levels = self._levels(difficulty)
        if len(levels) < 2:
            raise CircuitError(f"all questions are of one level ({levels[0].level}), so nothing is hardest")
        return _corrected([self._head(run) | self._traded(run, levels[0], levels[-1]) for run in self._own])

    @cached_property
    def responses(self) -> pd.DataFrame:
        """A row a response of every run: set, way, draw, key, groups, outcome, wrong_at, n_tokens, truncated."""
        keys = np.repeat(np.array(self.items, dtype=object), self.answers)
        told = {name: np.repeat(np.array(values, dtype=object), self.answers) for name, values in self.groups.items()}
        return pd.concat(
            [
                pd.DataFrame(
                    {
                        "set": run.set,
                        "way": run.way,
                        "draw": run.draw,
                        "key": keys,
                        **told,
                        "outcome": run.outcomes,
                        "wrong_at": run.wrong_at,
                        "n_tokens": run.n_tokens,
                        "truncated": run.truncated,
                    }
                )
                for run in (self.intact, *self.runs)
            ],
            ignore_index=True,
        )

    def plot(
        self, of: Literal["effects", "difficulty", "failures"] = "effects", *, difficulty: str | None = None
    ) -> Axes:
        """Draw effects beside their controls, the same by difficulty, or how answers end; the first panel's axes."""
        from circuitkit.plots import generation

        if of == "effects":
            return generation.effects_beside_controls(self)
        if of == "difficulty":
            return generation.effects_by_level(self, difficulty)
        if of == "failures":
            return generation.outcome_shares(self)
        raise CircuitError(f"effects, difficulty or failures can be drawn, not {of!r}")

    # Said

    def __str__(self) -> str:
        return "\n".join(sentences(self))

    def __repr__(self) -> str:
        return f"GenerationEffects({self.model} on {self.task}, {len(self.items)} questions, {len(self.runs)} runs)"

    # What tables are made of

    @property
    def _own(self) -> list[GenerationRun]:
        """The sets themselves, under each way."""
        return [run for run in self.runs if run.draw == ITSELF]

    def _controls(self, run: GenerationRun) -> list[GenerationRun]:
        return [each for each in self.runs if (each.set, each.way) == (run.set, run.way) and each.draw != ITSELF]

    def _head(self, run: GenerationRun) -> dict[str, Any]:
        return {"set": run.set, "way": run.way, "heads": len(run.heads)}

    def _levels(self, difficulty: str | None) -> list[Placed]:
        name = difficulty or usual_difficulty(self.groups, self.answers)
        if name is None:
            raise CircuitError(
                "nothing tells how hard these questions are: name a group of them as difficulty "
                f"({', '.join(self.groups) or 'they have none'}), or ask for several samples of each"
            )
        if name == OWN_ACCURACY:
            return by_own_accuracy(self._table(self.intact.right))
        if name not in self.groups:
            raise CircuitError(
                f"{self.task} has no group {name!r} to tell difficulty by; it has "
                f"{', '.join([*self.groups, repr(OWN_ACCURACY)])}"
            )
        return by_group(self.groups[name], self.answers)

    def _table(self, verdicts: Bool[np.ndarray, " response"]) -> Bool[np.ndarray, "item answer"]:
        return verdicts.reshape(len(self.items), self.answers)

    def _measured(self, run: GenerationRun, placed: Placed) -> dict[str, Any]:
        return self._beside(self.intact.right, run.right, [each.right for each in self._controls(run)], placed)

    def _beside(
        self,
        before: Bool[np.ndarray, " response"],
        after: Bool[np.ndarray, " response"],
        controls: Sequence[Bool[np.ndarray, " response"]],
        placed: Placed,
    ) -> dict[str, Any]:
        beside = [placed.after(self._table(each)) for each in controls]
        return measured_beside(
            placed.before(self._table(before)),
            placed.after(self._table(after)),
            np.array(beside).reshape(len(beside), len(placed.items)),
            placed.items,
        )

    def _traded(self, run: GenerationRun, easiest: Placed, hardest: Placed) -> dict[str, Any]:
        def changes(each: GenerationRun, placed: Placed) -> Floats:
            return np.asarray(placed.after(self._table(each.right)) - placed.before(self._table(self.intact.right)))

        hard, easy = changes(run, hardest), changes(run, easiest)
        own = [self._measured(run, placed) for placed in (hardest, easiest)]
        row = {
            "hardest": hardest.level,
            "on_hardest": own[0]["effect"],
            "easiest": easiest.level,
            "on_easiest": own[1]["effect"],
            "difference": float(hard.mean() - easy.mean()),
        }
        row["low"], row["high"], row["p"] = between_levels(hard, easy, hardest.items, easiest.items)
        beside = self._controls(run)
        others = np.array([changes(each, hardest).mean() - changes(each, easiest).mean() for each in beside])
        row["controls"] = len(others)
        row["control_difference"] = float(others.mean()) if len(others) else float("nan")
        row["p_controls"] = rank_p(row["difference"], others) if len(others) else float("nan")
        gains, loses = ([one["low"] > 0 for one in own], [one["high"] < 0 for one in own])
        return row | {"trades": bool((gains[0] and loses[1]) or (loses[0] and gains[1]))}

    # Files

    def save(self, path: str | Path) -> Path:
        """Write all of it as JSON, whole or not at all, and give the path; a folder gets `generation.json`.

        Raises:
            CircuitError: the file has another suffix.
        """
        return _FILE.write(
            path,
            {
                "model": self.model,
                "task": self.task,
                "judge": self.judge,
                "items": list(self.items),
                "groups": {name: list(values) for name, values in self.groups.items()},
                "answers": self.answers,
                "intact": self.intact.to_json(),
                "runs": [run.to_json() for run in self.runs],
                "provenance": dict(self.provenance),
            },
        )

    @classmethod
    def load(cls, path: str | Path) -> GenerationEffects:
        """Read what was saved.

        Raises:
            CircuitError: there is no such file, it is cut short, or it holds something else.
        """
        return _FILE.read(
            path,
            lambda told: cls(
                told["model"],
                told["task"],
                told["judge"],
                tuple(told["items"]),
                {name: tuple(values) for name, values in told["groups"].items()},
                told["answers"],
                GenerationRun.from_json(told["intact"]),
                tuple(GenerationRun.from_json(each) for each in told["runs"]),
                told["provenance"],
            ),
        )


def _corrected(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    table = pd.DataFrame(rows)
    for name in ("p", "p_controls"):
        table[f"{name}_corrected"] = statistics.holm(table[name])
    return table
