"""The table that a threshold is looked for in: a row a model, checked, in an order of its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from circuitkit.showing import Shown
from circuitkit.thresholds.errors import ThresholdError

_NEEDED = ("model", "family", "parameters", "correct", "total")
LEAST_SIZES = 4
"""A bend has three coefficients and a place: of fewer sizes than this any curve goes through every one."""


@dataclass(frozen=True, eq=False, repr=False)
class Models(Shown):
    """Models of known size, and how many answers of each were right.

    >>> table = pd.DataFrame({"model": list("dcba"), "family": "x", "parameters": [8e6, 4e6, 2e6, 1e6],
    ...                       "correct": [9, 3, 2, 1], "total": 10})
    >>> Models.of(table).frame["model"].tolist()
    ['a', 'b', 'c', 'd']
    """

    frame: pd.DataFrame

    @classmethod
    def of(cls, table: pd.DataFrame) -> Models:
        """Check a table, and put its rows in the order of size, family and name.

        Raises:
            ThresholdError: a column or a value is missing or impossible, a model turns up twice, or there are fewer
                than four sizes.
        """
        if missing := [name for name in _NEEDED if name not in table.columns]:
            raise ThresholdError(f"the table has no column {missing[0]!r}; it needs {', '.join(_NEEDED)}")
        frame = table.copy()
        _check_names(frame)
        for name in ("parameters", "correct", "total"):
            frame[name] = _numbers(frame, name)
        _check_counts(frame)
        frame = frame.sort_values(["parameters", "family", "model"], kind="stable", ignore_index=True)
        if (n_sizes := frame["parameters"].nunique()) < LEAST_SIZES:
            raise ThresholdError(
                f"{len(frame)} {'model' if len(frame) == 1 else 'models'} of {n_sizes} different "
                f"{'size' if n_sizes == 1 else 'sizes'}: a threshold needs {LEAST_SIZES} sizes at the least; "
                "add models of other sizes"
            )
        return cls(frame)

    def _says(self) -> list[str]:
        frame = self.frame
        n, families = len(frame), frame["family"].nunique()
        return [
            f"{n} models of {families} famil{'ies' if families != 1 else 'y'}, {frame['parameters'].min():.3g} to "
            f"{frame['parameters'].max():.3g} parameters, the smallest first."
        ]

    def without(self, family: str) -> pd.DataFrame:
        """The table without one family."""
        return self.frame.loc[self.frame["family"] != family]

    @cached_property
    def correct(self) -> Float[np.ndarray, " model"]:
        """How many answers were right."""
        return self.frame["correct"].to_numpy(dtype=np.float64)

    @cached_property
    def total(self) -> Float[np.ndarray, " model"]:
        """Of how many."""
        return self.frame["total"].to_numpy(dtype=np.float64)

    @cached_property
    def families(self) -> tuple[str, ...]:
        """The families' names, in the order of the alphabet."""
        return tuple(sorted(set(self.frame["family"])))

    @cached_property
    def family(self) -> Int[np.ndarray, " model"]:
        """Each model's family, as a place in `families`."""
        return np.array([self.families.index(name) for name in self.frame["family"]])

    @cached_property
    def sizes(self) -> Float[np.ndarray, " size"]:
        """The different numbers of parameters, smallest first."""
        return np.unique(self.frame["parameters"].to_numpy(dtype=np.float64))

    @cached_property
    def log_sizes(self) -> Float[np.ndarray, " size"]:
        """Their natural logarithms, counted from the smallest, so that the unit of size makes no difference."""
        return np.asarray(np.log(self.sizes / self.sizes[0]))

    @cached_property
    def at(self) -> Int[np.ndarray, " model"]:
        """Each model's size, as a place in `sizes`."""
        return np.searchsorted(self.sizes, self.frame["parameters"].to_numpy(dtype=np.float64))

    def pooled(self, counts: Float[np.ndarray, "draw model"]) -> Float[np.ndarray, "draw size"]:
        """Counts added up over the models of each size, which is all that a curve of size can see of them."""
        return np.asarray(counts @ (self.at[:, None] == np.arange(len(self.sizes))).astype(np.float64))


def _check_names(frame: pd.DataFrame) -> None:
    for place, (model, family) in enumerate(zip(frame["model"], frame["family"], strict=True)):
        if not isinstance(model, str) or not model:
            raise ThresholdError(f"row {place} of the table has no model name")
        if not isinstance(family, str) or not family:
            raise ThresholdError(f"{model} has no family; give it one of its own if it has no relatives")
    if (twice := frame["model"][frame["model"].duplicated()]).size:
        raise ThresholdError(f"{twice.iloc[0]} stands twice in the table; keep one row a model and task")


def _numbers(frame: pd.DataFrame, name: str) -> pd.Series[float]:
    numbers = pd.to_numeric(frame[name], errors="coerce").astype(float)
    if (wrong := ~np.isfinite(numbers)).any():
        row = frame.loc[wrong].iloc[0]
        raise ThresholdError(f"{row['model']}: {name} is {row[name]!r}, which is no number")
    return numbers


def _check_counts(frame: pd.DataFrame) -> None:
    for row in frame.to_dict("records"):
        model, n, hits, total = row["model"], row["parameters"], row["correct"], row["total"]
        if n <= 0:
            raise ThresholdError(f"{model}: a model cannot have {n:g} parameters")
        if total < 1 or total != round(total) or hits != round(hits):
            raise ThresholdError(f"{model}: {hits:g} correct of {total:g}; give whole numbers of answers, not shares")
        if not 0 <= hits <= total:
            raise ThresholdError(f"{model}: {hits:g} correct of {total:g} answers is impossible")
