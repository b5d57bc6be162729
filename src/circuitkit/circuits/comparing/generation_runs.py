"""What a model answered while some heads were changed: one run of all questions, and the same as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from circuitkit.circuits.comparing.failures import OUTCOMES, Outcome
from circuitkit.statistics import Head

INTACT = "intact"
ITSELF = -1
"""The draw that is no random set, but the set itself."""
_LETTERS: Mapping[str, Outcome] = {outcome[0]: outcome for outcome in OUTCOMES}


@dataclass(frozen=True, eq=False)
class GenerationRun:
    """All answers under one change, in the order of questions, seeds and samples.

    Attributes:
        set: the name of the set of heads; "intact" for none.
        way: what was done to them: "zero", "mean", or "x0.5", "x1.3" for multiples.
        draw: which random set stands in the set's place; -1 for the set itself.
        heads: those that were changed.
        outcomes: how each answer ended.
        wrong_at: the number of its first wrong step; NaN without one.
        n_tokens: its length.
        truncated: whether it was broken off.
    """

    set: str
    way: str
    draw: int
    heads: tuple[Head, ...]
    outcomes: tuple[Outcome, ...]
    wrong_at: Float[np.ndarray, " response"]
    n_tokens: Int[np.ndarray, " response"]
    truncated: Bool[np.ndarray, " response"]

    @classmethod
    def of(cls, set_name: str, way: str, draw: int, heads: tuple[Head, ...], found: pd.DataFrame) -> GenerationRun:
        """Of the table that `classify_failures` gives."""
        return cls(
            set_name,
            way,
            draw,
            heads,
            tuple(found["outcome"]),
            found["wrong_at"].to_numpy(dtype=float),
            found["n_tokens"].to_numpy(dtype=np.int64),
            found["truncated"].to_numpy(dtype=bool),
        )

    @cached_property
    def right(self) -> Bool[np.ndarray, " response"]:
        """Which answers are right."""
        return self.ended("right")

    def ended(self, outcome: Outcome) -> Bool[np.ndarray, " response"]:
        """Which answers ended so."""
        return np.array([each == outcome for each in self.outcomes])

    def to_json(self) -> dict[str, Any]:
        """As JSON: outcomes by their first letters."""
        return {
            "set": self.set,
            "way": self.way,
            "draw": self.draw,
            "heads": [list(head) for head in self.heads],
            "outcomes": "".join(outcome[0] for outcome in self.outcomes),
            "wrong_at": [None if np.isnan(at) else int(at) for at in self.wrong_at],
            "n_tokens": self.n_tokens.tolist(),
            "truncated": "".join("1" if each else "0" for each in self.truncated),
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> GenerationRun:
        """Of JSON.

        Raises:
            KeyError, ValueError: it is no run.
        """
        return cls(
            told["set"],
            told["way"],
            int(told["draw"]),
            tuple((int(layer), int(head)) for layer, head in told["heads"]),
            tuple(_LETTERS[letter] for letter in told["outcomes"]),
            np.array([np.nan if at is None else at for at in told["wrong_at"]], dtype=float),
            np.array(told["n_tokens"], dtype=np.int64),
            np.array([each == "1" for each in told["truncated"]]),
        )
