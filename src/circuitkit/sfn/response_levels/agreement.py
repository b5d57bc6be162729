"""How well two readers of the same responses agree on their levels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from circuitkit import statistics
from circuitkit.sfn.response_levels.criterion import LEVELS, Level
from circuitkit.showing import Shown


@dataclass(frozen=True, repr=False)
class Agreement(Shown):
    """How well levels agree with labels given by hand.

    Attributes:
        levels: the criterion's.
        labels: the hand's.

    >>> Agreement(("I", "II", "IV"), ("I", "III", "IV")).hits
    2
    """

    levels: tuple[Level, ...]
    labels: tuple[Level, ...]

    @property
    def n(self) -> int:
        """Responses."""
        return len(self.labels)

    @property
    def hits(self) -> int:
        """Responses on which both agree."""
        return sum(a == b for a, b in zip(self.levels, self.labels, strict=True))

    @property
    def share(self) -> float:
        """The share of responses on which both agree."""
        return self.hits / self.n

    @property
    def interval(self) -> statistics.Interval:
        """Wilson's 95 % interval of that share."""
        return statistics.wilson(self.hits, self.n)

    @property
    def kappa(self) -> float:
        """Cohen's kappa: 0 for chance alone, 1 for agreement on all. NaN where both give one level throughout."""
        from statsmodels.stats.inter_rater import cohens_kappa

        return (
            float(cohens_kappa(self.confusion.to_numpy(), return_results=False)) if self._told_apart else float("nan")
        )

    @property
    def _told_apart(self) -> bool:
        return len({*self.levels, *self.labels}) > 1

    @cached_property
    def confusion(self) -> pd.DataFrame:
        """How often each label (rows) met each level (columns)."""
        counts = np.zeros((len(LEVELS), len(LEVELS)), dtype=int)
        for level, label in zip(self.levels, self.labels, strict=True):
            counts[LEVELS.index(label), LEVELS.index(level)] += 1
        names = pd.Index(LEVELS)
        return pd.DataFrame(counts, index=names.rename("by hand"), columns=names.rename("criterion"))

    def _strongest(self) -> pd.DataFrame:
        return self.confusion.reset_index()

    def __str__(self) -> str:
        low, high = self.interval
        told = f"{100 * self.share:.1f} % ({100 * low:.1f} to {100 * high:.1f}, {self.hits} of {self.n})"
        return f"{told}, kappa {self.kappa:.2f}"
