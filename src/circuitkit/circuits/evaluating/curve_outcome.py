"""How faithful circuits of growing size are, and the areas under and beside that curve."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuitkit.circuits.evaluating.faithful import Averaging
from circuitkit.circuits.evaluating.resampling import (
    Estimates,
    Resampling,
    Statistic,
    mean_of_ratios,
    ratio_of_means,
)
from circuitkit.saving import InOneFile
from circuitkit.statistics.cells import Floats, as_array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Measure = Literal["cpr", "cmd"]
AVERAGINGS: tuple[Averaging, ...] = ("ratio of means", "mean of ratios")
_DRAWS = 2000


class Area(NamedTuple):
    """An area, its interval over examples, and the same of random circuits and of the magnitude baseline.

    `random_low` and `random_high` hold the middle 95 % of the random draws; `p` is the chance that a random circuit
    does at least as well.
    """

    value: float
    low: float
    high: float
    random_mean: float
    random_low: float
    random_high: float
    p: float
    magnitude: float


@dataclass(frozen=True, eq=False, repr=False)
class Curve(InOneFile):
    """What circuits of growing size do alone, beside random circuits and circuits of the largest magnitudes.

    Faithfulness of a circuit is f = (m − m∅) / (m₁ − m∅), of its metric m, that of the empty circuit m∅ under the same
    ablation, and that of the whole model m₁. `ratio of means` takes the mean of each over examples first, as MIB does;
    `mean of ratios` takes f of each example, but those whose whole and empty runs differ by less than
    1 % of what they differ by on average, as `Faithfulness` does. Intervals are of examples drawn anew, whole groups
    where pairs have groups.

    Attributes:
        fractions: the sizes asked for, as shares of all edges.
        requested: the edges that these are, before pruning.
        sizes: the edges that were left.
        per_example: the metric under each circuit.
        clean, empty: the metric of the whole model, and under the empty circuit.
        random, random_sizes: the same of random circuits; none where no draws were asked for.
        magnitude, magnitude_sizes: the same of circuits of the edges of largest magnitude (see `magnitudes`).
        settings: metric, unit, by, select, prune, match, ablation, n_edges, title, seed.
        groups: the clusters that examples belong to.
        provenance: model, data, versions, command.
    """

    _kind = "curve"

    fractions: tuple[float, ...]
    requested: tuple[int, ...]
    sizes: tuple[int, ...]
    per_example: Float[Tensor, "size example"]
    clean: Float[Tensor, " example"]
    empty: Float[Tensor, " example"]
    random: Float[Tensor, "draw size example"]
    random_sizes: Int[Tensor, "draw size"]
    settings: Mapping[str, Any]
    magnitude: Float[Tensor, "size example"] | None = None
    magnitude_sizes: tuple[int, ...] = ()
    groups: Int[Tensor, " example"] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    # Faithfulness at each size

    @cached_property
    def faithfulness(self) -> Mapping[Averaging, Estimates]:
        """f at each size with its interval, under both averagings."""
        return {how: self._resampling.estimates(self._ratio(self.per_example, how)) for how in AVERAGINGS}

    @cached_property
    def _resampling(self) -> Resampling:
        groups = None if self.groups is None else self.groups.tolist()
        return Resampling.of(len(self.clean), groups, _DRAWS, int(self.settings["seed"]))

    def _ratio(self, values: Float[Tensor, "cell example"], how: Averaging) -> Statistic:
        empty = as_array(self.empty)
        parts, wholes = as_array(values) - empty, as_array(self.clean) - empty
        return (ratio_of_means if how == "ratio of means" else mean_of_ratios)(parts, wholes)

    def _values(self, values: Float[Tensor, "... size example"], how: Averaging) -> Floats:
        """f of each circuit over all examples."""
        flat = values.reshape(-1, values.shape[-1])
        every = np.ones((1, values.shape[-1]))
        return np.asarray(self._ratio(flat, how)(every)[0].reshape(values.shape[:-1]))

    @cached_property
    def undefined(self) -> str | None:
        """Why there is little to be faithful to: the whole model is not surely apart from the empty circuit."""
        apart = (as_array(self.clean) - as_array(self.empty))[None]
        found = self._resampling.estimates(lambda weights: weights @ apart.T / weights.sum(1)[:, None])
        low, high = float(found.low[0]), float(found.high[0])
        if not low <= 0 <= high:
            return None
        return (
            f"the whole model and the empty circuit differ by {found.value[0]:.3g} (95 % interval {low:.3g} to "
            f"{high:.3g}), which may be nothing: there is no behaviour that circuits could have a share of"
        )

    @cached_property
    def frame(self) -> pd.DataFrame:
        """A row for each size of the circuit, of the magnitude baseline and of the random circuits.

        Columns: `circuit` ("found", "magnitude" or "random"), `fraction` and `requested` (what was asked for),
        `edges` (what was left; of random circuits their mean), `faithfulness`, `low`, `high` (ratio of means), and
        `mean_of_ratios`, `mean_of_ratios_low`, `mean_of_ratios_high`. Ends are of 95 % intervals over examples, of
        random circuits the middle 95 % of the draws.
        """
        asked = {"fraction": self.fractions, "requested": self.requested}
        parts = [{"circuit": "found", **asked, "edges": self.sizes, **self._columns(self.faithfulness)}]
        if self.magnitude is not None:
            found = {how: self._resampling.estimates(self._ratio(self.magnitude, how)) for how in AVERAGINGS}
            parts.append({"circuit": "magnitude", **asked, "edges": self.magnitude_sizes, **self._columns(found)})
        if len(self.random):
            drawn = {how: _spread(self._values(self.random, how)) for how in AVERAGINGS}
            edges = self.random_sizes.double().mean(0).numpy()
            parts.append({"circuit": "random", **asked, "edges": edges, **self._columns(drawn)})
        return pd.concat([pd.DataFrame(part) for part in parts], ignore_index=True)

    def _strongest(self) -> pd.DataFrame:
        """The largest circuits but for the whole, beside random ones of the size."""
        frame = self.frame
        found = frame[frame["circuit"] == "found"][["fraction", "edges", "faithfulness", "low", "high"]]
        if len(self.random):
            random = frame[frame["circuit"] == "random"]
            found = found.merge(random[["fraction", "faithfulness"]], on="fraction", suffixes=("", "_random"))
            found = found.rename(columns={"faithfulness_random": "random"})
        return found.sort_values("fraction", ascending=False, kind="stable")

    def _columns(self, found: Mapping[Averaging, Estimates]) -> dict[str, Floats]:
        of_means, of_ratios = (found[how] for how in AVERAGINGS)
        return dict(zip(("faithfulness", "low", "high"), of_means, strict=True)) | dict(
            zip(("mean_of_ratios", "mean_of_ratios_low", "mean_of_ratios_high"), of_ratios, strict=True)
        )

    # Areas

    @property
    def cpr(self) -> float:
        """CPR, the area under f (higher is better), as MIB takes it: from the smallest size, ratio of means."""
        return self.area("cpr").value

    @property
    def cmd(self) -> float:
        """CMD, the area between f and 1 (lower is better), as MIB takes it: from the smallest size, ratio of means."""
        return self.area("cmd").value

    def area(self, measure: Measure, averaging: Averaging = "ratio of means", *, from_zero: bool = False) -> Area:
        """The area under f ("cpr") or between f and 1 ("cmd"), over the share of edges asked for, on a linear axis.

        MIB begins at its smallest size (0.1 %), so that f = 1 throughout has a CPR of 0.999; `from_zero` adds what lies
        before it, where the empty circuit has f = 0 by definition.

        Raises:
            ValueError: of neither measure, or by neither averaging.

        Source: Mueller et al. 2025 (MIB), arXiv 2504.13151, section 3.
        """
        if measure not in ("cpr", "cmd") or averaging not in AVERAGINGS:
            raise ValueError(
                f"areas are 'cpr' and 'cmd', by {' or '.join(map(repr, AVERAGINGS))}, not {measure!r} by {averaging!r}"
            )
        of = self._of_area(measure, from_zero)
        ratio = self._ratio(self.per_example, averaging)
        found = self._resampling.estimates(lambda weights: of(ratio(weights))[:, None])
        value = float(found.value[0])
        drawn = of(self._values(self.random, averaging)) if len(self.random) else np.array([np.nan])
        low, high = np.quantile(drawn, [0.025, 0.975])
        as_good = int((drawn >= value).sum() if measure == "cpr" else (drawn <= value).sum())
        p = (1 + as_good) / (1 + len(self.random)) if len(self.random) else float("nan")
        beside = float("nan")
        if self.magnitude is not None:
            beside = float(of(self._values(self.magnitude, averaging)[None])[0])
        ends = float(found.low[0]), float(found.high[0])
        return Area(value, *ends, float(drawn.mean()), float(low), float(high), p, beside)

    def _of_area(self, measure: Measure, from_zero: bool) -> Any:
        at = np.array(self.fractions)

        def area(f: Float[np.ndarray, "draw size"]) -> Float[np.ndarray, " draw"]:
            x = np.concatenate([[0.0], at]) if from_zero else at
            f = np.concatenate([np.zeros((len(f), 1)), f], axis=1) if from_zero else f
            return np.asarray(np.trapezoid(f if measure == "cpr" else np.abs(1 - f), x, axis=1))

        return area

    @cached_property
    def areas(self) -> pd.DataFrame:
        """A row for each measure, averaging and beginning (`start`, the share of edges), with the columns of `Area`."""
        rows = [
            {
                "measure": measure,
                "averaging": averaging,
                "start": 0.0 if from_zero else self.fractions[0],
                **self.area(measure, averaging, from_zero=from_zero)._asdict(),
            }
            for measure in ("cpr", "cmd")
            for averaging in AVERAGINGS
            for from_zero in (False, True)
        ]
        return pd.DataFrame(rows)

    # Showing, saving

    def plot(self, *, axes: Axes | None = None) -> Axes:
        """Draw faithfulness against size (logarithmic), with intervals, beside random circuits and magnitudes."""
        from circuitkit.plots.circuit_curve import circuit_curve

        return circuit_curve(self, axes=axes)

    def __str__(self) -> str:
        told = [self._told("cpr", "area under faithfulness"), self._told("cmd", "area beside it")]
        if self.undefined:
            told.append(self.undefined)
        return f"{self.settings['title']}: {'; '.join(told)}"

    def _told(self, measure: Measure, what: str) -> str:
        area = self.area(measure)
        # MIB takes CPR of edges by sign, CMD of edges by magnitude.
        own = self.settings["by"] == ("signed" if measure == "cpr" else "absolute")
        by = "" if own else f" ({self.settings['by']}, where MIB takes {'signed' if measure == 'cpr' else 'absolute'})"
        random = f", random circuits {area.random_mean:.3f}" if len(self.random) else ""
        interval = "no interval of so few examples"
        if np.isfinite(area.low):
            interval = f"95 % interval {area.low:.3f} to {area.high:.3f}"
        return f"{measure.upper()} {area.value:.3f} ({what}; {interval}{random}){by}"

    def __repr__(self) -> str:
        return f"Curve({self})"

    def __eq__(self, other: object) -> bool:
        """Equal values, sizes, settings and provenance."""
        if not isinstance(other, Curve):
            return NotImplemented
        told = [json.dumps([dict(each.settings), dict(each.provenance)], sort_keys=True) for each in (self, other)]
        arrays = [(getattr(self, name), getattr(other, name)) for name in _TENSORS]
        return (
            told[0] == told[1]
            and all(getattr(self, name) == getattr(other, name) for name in _TUPLES)
            and all(a is b if a is None or b is None else torch.equal(a, b) for a, b in arrays)
        )

    __hash__ = None  # type: ignore[assignment]  # compared by value, and its tensors can change


_TUPLES = ("fractions", "requested", "sizes", "magnitude_sizes")
_TENSORS = ("per_example", "clean", "empty", "random", "random_sizes", "magnitude", "groups")


def _spread(drawn: Float[np.ndarray, "draw size"]) -> Estimates:
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    return Estimates(drawn.mean(0), low, high)
