"""What a search for a threshold found: whether there is one, where, how sure, as tables, sentences and a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from circuitkit.records import whole_file
from circuitkit.showing import Shown
from circuitkit.thresholds.curves import THRESHOLDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Verdict = Literal["threshold", "possible", "growth", "flat"]

_FORMAT = 1
_WIDE = 0.5
"""An interval over more than this share of the range of sizes, in log parameters, says nowhere in particular."""


@dataclass(frozen=True, eq=False, repr=False)
class Threshold(Shown):
    """Accuracy against the number of parameters: is there a threshold, where, and how sure is that.

    The verdict is one of

    - `flat`: accuracy cannot be shown to go with size (a permutation test of the rank correlation)
    - `growth`: accuracy changes with size, and some smooth curve explains it as well, or what changes is not that a
      rise begins
    - `possible`: a curve with a threshold fits better than every smooth one, but a smooth one or isotonic regression
      predicts models that were left out as well (within one standard error of the difference), or whole families that
      were left out
    - `threshold`: it fits better and predicts better, models and families

    Attributes:
        frame: a row a model: the table that was given, with accuracy, interval, test against chance, failures.
        curves: a row a curve: kind, likelihood, dispersion, spread, its breakpoint with interval, and its log scores
            on models and families that were left out.
        lines: the curves drawn out: curve, parameters, accuracy.
        tests: each curve with a threshold against each smooth one (see `against_smooth`).
        families: a row a family by itself (see `within_families`).
        left_out: a row a family: what the search finds without it.
        p_trend: the p of accuracy going with size at all (see `trend`).
        task, chance, level, seed: as they were given.
        resampled: what the bootstrap drew: "families" or "models".
        provenance: where it comes from.
    """

    frame: pd.DataFrame
    curves: pd.DataFrame
    lines: pd.DataFrame
    tests: pd.DataFrame
    families: pd.DataFrame
    left_out: pd.DataFrame
    p_trend: float
    task: str
    chance: float | None
    level: float
    seed: int
    resampled: str
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def best(self) -> pd.Series[Any]:
        """The row of `curves` of the best curve with a threshold: of those that begin to rise, if any does.

        The best is the one that predicts left-out models best.
        """
        rows = self.curves[self.curves["curve"].isin(THRESHOLDS) & self.curves["breakpoint"].notna()]
        rising = rows[[self._begins(row["curve"], row["rise"]) for row in rows.to_dict("records")]]
        return _largest(rising if len(rising) else rows, "model_score")

    def _begins(self, curve: str, rise: float) -> bool:
        """Whether accuracy begins to rise at a breakpoint: of a bent line, the second part has to be steeper."""
        line = self.lines.loc[self.lines["curve"] == curve, "accuracy"].to_numpy(dtype=np.float64)
        return bool(rise > 0 and (curve != "hinge" or line[-1] - line[-2] > line[1] - line[0]))

    @property
    def best_smooth(self) -> pd.Series[Any]:
        """The row of `curves` of the curve without a threshold that predicts left-out models best.

        Isotonic regression is one of them: where it predicts as well, accuracy may rise in any way at all.
        """
        return _largest(self._without_threshold, "model_score")

    @property
    def best_smooth_by_family(self) -> pd.Series[Any] | None:
        """The same for whole families left out; None where too few sizes would be left."""
        rows = self._without_threshold
        return _largest(rows, "family_score") if rows["family_score"].notna().all() else None

    @property
    def _without_threshold(self) -> pd.DataFrame:
        return pd.DataFrame(self.curves[~self.curves["curve"].isin(THRESHOLDS)])

    @property
    def p(self) -> float:
        """The largest p of the best threshold against a smooth curve, corrected: each of them has to be rejected."""
        return float(self._tested["p_corrected"].max())

    @property
    def p_error(self) -> float:
        """The standard error of `p` for want of more draws."""
        return float(np.sqrt(self.p * (1 - self.p) / int(self._tested["draws"].iloc[0])))

    @property
    def hardest(self) -> str:
        """The smooth curve that is hardest to reject."""
        return str(_largest(self._tested, "p_corrected")["smooth"])

    @property
    def _tested(self) -> pd.DataFrame:
        return pd.DataFrame(self.tests[self.tests["threshold"] == self.best["curve"]])

    @property
    def gain(self) -> tuple[float, float]:
        """How much better the best threshold predicts a left-out model than the best smooth curve, and its error.

        In nats a model, with the standard error over models.
        """
        mine, smooth = (
            self.frame[f"score_{row['curve']}"].to_numpy(dtype=np.float64) for row in (self.best, self.best_smooth)
        )
        return float((mine - smooth).mean()), float((mine - smooth).std(ddof=1) / np.sqrt(len(mine)))

    @property
    def gain_by_family(self) -> tuple[float, float] | None:
        """The same of models whose whole family was left out, with the standard error over families (clustered).

        None where without some family too few sizes would be left.
        """
        if (smooth := self.best_smooth_by_family) is None:
            return None
        more = self.frame[f"family_score_{self.best['curve']}"] - self.frame[f"family_score_{smooth['curve']}"]
        families = more.sub(more.mean()).groupby(self.frame["family"]).sum()
        n = len(families)
        return float(more.mean()), float(np.sqrt(n / (n - 1) * (families**2).sum()) / len(more))

    @property
    def rises(self) -> bool:
        """Whether accuracy begins to rise at the breakpoint."""
        return self._begins(str(self.best["curve"]), float(self.best["rise"]))

    @property
    def verdict(self) -> Verdict:
        """`threshold`, `possible`, `growth` or `flat`, as the class tells."""
        alpha = 1 - self.level
        if self.p_trend >= alpha:
            return "flat"
        if self.p >= alpha or not self.rises:
            return "growth"
        gain, error = self.gain
        by_family = self.gain_by_family
        return "threshold" if gain > error and (by_family is None or by_family[0] > 0) else "possible"

    @property
    def breakpoint(self) -> float:
        """Of the best curve with a threshold, in parameters, whether or not it is believed."""
        return float(self.best["breakpoint"])

    @property
    def interval(self) -> tuple[float, float]:
        """Its bootstrap interval, in parameters."""
        return float(self.best["low"]), float(self.best["high"])

    @property
    def located(self) -> bool:
        """Whether the interval covers half of the range of sizes at the most, in log parameters."""
        low, high = self.interval
        sizes = self.frame["parameters"]
        return bool(np.log(high / low) <= _WIDE * np.log(sizes.max() / sizes.min()))

    def sentences(self) -> list[str]:
        """Say in plain sentences: is there a threshold, where, how sure; families; chance; failures."""
        from circuitkit.thresholds.sentences import told

        return told(self)

    def plot(self, *, axes: Axes | None = None) -> Axes:
        """Draw accuracy against size with intervals, the curves, and where the breakpoint may lie."""
        from circuitkit import plots

        return plots.accuracy_against_size(self, axes=axes)

    def _strongest(self) -> pd.DataFrame:
        ranked = self.curves.sort_values("model_score", ascending=False, kind="stable")
        return ranked[
            ["curve", "kind", "free", "breakpoint", "low", "high", "log_likelihood", "dispersion", "model_score"]
        ]

    def save(self, path: str | Path) -> Path:
        """Write it to one JSON file, whole or not at all, and give its path; a folder gets `threshold.json`."""
        path = _file(Path(path))
        with whole_file(path) as beside:
            beside.write_text(json.dumps(self._described(), indent=1) + "\n", encoding="utf-8")
        return path

    @classmethod
    def load(cls, path: str | Path) -> Threshold:
        """Read what `save` wrote, from its file or its folder.

        Raises FileNotFoundError where there is none, and ValueError, naming the file, where it is cut short or not a
        threshold's.
        """
        path = _file(Path(path))
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such result; save one there with Threshold.save")
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            if told.pop("circuitkit.threshold") != _FORMAT:
                raise ValueError("written by a later circuitkit; upgrade to read it")
            tables = {name: _table(value) for name, value in told.items() if name in _TABLES}
            return cls(**(told | tables))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{path}: not a threshold that can be read ({error})") from error

    def __eq__(self, other: object) -> bool:
        """Equal tables, numbers and provenance; a NaN equals a NaN."""
        if not isinstance(other, Threshold):
            return NotImplemented
        return json.dumps(self._described()) == json.dumps(other._described())

    __hash__ = None  # type: ignore[assignment]  # compared by value, and its tables can change

    def _described(self) -> dict[str, Any]:
        told: dict[str, Any] = {"circuitkit.threshold": _FORMAT}
        for each in fields(self):
            value = getattr(self, each.name)
            told[each.name] = _columns(value) if isinstance(value, pd.DataFrame) else value
        told["provenance"] = dict(self.provenance)
        return told


_TABLES = ("frame", "curves", "lines", "tests", "families", "left_out")


def _largest(rows: pd.DataFrame, column: str) -> pd.Series[Any]:
    return rows.iloc[int(rows[column].to_numpy(dtype=np.float64).argmax())]


def _file(path: Path) -> Path:
    return path if path.suffix == ".json" else path / "threshold.json"


def _columns(table: pd.DataFrame) -> dict[str, Any]:
    """A table as JSON can hold it: each column's kind and values, None where there is none."""
    return {
        str(name): {"kind": str(table[name].dtype), "values": [_plain(value) for value in table[name].tolist()]}
        for name in table.columns
    }


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and np.isnan(value) else value


def _table(columns: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(each["values"], dtype=each["kind"]) for name, each in columns.items()})
