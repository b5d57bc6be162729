"""What a study returns: values under named cells, the baselines they are held against, and their origin.

A `Result` keeps every example's value, so that intervals and tests are made from it and not stored beside it.
It is written whole or not at all, and one that loads again is equal and shows the same picture.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from circuitkit import saving, statistics
from circuitkit.records import data_hash, provenance, whole_file
from circuitkit.showing import Shown
from circuitkit.statistics.cells import as_array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Direction = Literal["denoise", "noise", "ablate"]
__all__ = ["Baseline", "Result", "data_hash", "provenance", "whole_file"]

Column = Literal["value", "effect", "normalised"]

_FORMAT = 1


@dataclass(frozen=True, eq=False, repr=False)
class Baseline(Shown):
    """Each example's value without any cell: in the clean run and, where there is one, in the corrupt run.

    >>> Baseline(clean=torch.tensor([1.0, 3.0])).clean_mean
    2.0
    """

    clean: Float[Tensor, " example"]
    corrupt: Float[Tensor, " example"] | None = None

    @property
    def clean_mean(self) -> float:
        """The mean over examples of the clean run."""
        return float(self.clean.double().mean())

    @property
    def corrupt_mean(self) -> float | None:
        """The mean over examples of the corrupt run, None where there is none."""
        return None if self.corrupt is None else float(self.corrupt.double().mean())

    def _says(self) -> list[str]:
        corrupt = "" if self.corrupt_mean is None else f", {self.corrupt_mean:.3g} in the corrupt run"
        n = len(self.clean)
        return [f"Mean over {n} example{'s' * (n != 1)}: {self.clean_mean:.3g} in the clean run{corrupt}."]


def effects_of(
    per_example: Float[Tensor, "*cells example"], baseline: Baseline, direction: Direction
) -> Float[Tensor, "*cells example"]:
    """Each example's effect, positive where a cell moves the metric the way the clean run lies (see `Result`).

    >>> effects_of(torch.ones(3, 2), Baseline(torch.full((2,), 5.0)), "ablate").mean().item()
    4.0
    """
    if direction != "denoise":
        return baseline.clean - per_example
    assert baseline.corrupt is not None  # a Result refuses a baseline without
    return per_example - baseline.corrupt


@dataclass(frozen=True, eq=False, repr=False)
class Result(Shown):
    """A metric under every cell of a study.

    `per_example` has shape `[*cells, example]`, its axes named by `axes`; a cell that does not exist (a head
    that its layer lacks) is NaN for all examples. `direction` fixes what an effect is, always so that it is
    positive where a cell moves the metric the way the clean run lies:

    - `denoise` (corrupt run, clean activation): effect = value − corrupt
    - `noise` (clean run, corrupt activation): effect = clean − value
    - `ablate` (clean run, no activation): effect = clean − value

    The normalised effect is the effect over clean − corrupt (ablation: over |clean|), all averaged over
    examples first: 1 means that the one cell restored, or destroyed, all of the difference. It is NaN where
    that divisor is 0, and `undefined` says so.

    `controls` are the mean effects, in the same direction, of random sets of heads beside each cell, where a study has
    drawn some: NaN behind a cell's last one, and throughout where it has none.

    `coordinates` names the entries along an axis, 0, 1, 2, … unless given, and `labels` how they are shown;
    `groups` are the clusters that examples belong to; `unit` is the metric's. An example's effect under
    `resolution` times the metric's largest magnitude counts as none in tests, since rounding is as large: a
    cell that changes nothing would else be significant where all its rounding errors have one sign.

    Raises ValueError where shapes and names disagree.

    >>> result = Result(torch.tensor([[3.0, 3.0], [1.0, 1.0]]), ("layer",),
    ...                 Baseline(torch.full((2,), 5.0), torch.ones(2)), "denoise", "logit_difference")
    >>> result.values.tolist(), result.normalised.tolist()
    ([3.0, 1.0], [0.5, 0.0])
    """

    per_example: Float[Tensor, "*cells example"]
    axes: tuple[str, ...]
    baseline: Baseline
    direction: Direction
    metric: str
    unit: str = ""
    title: str = ""
    coordinates: Mapping[str, tuple[int | str, ...]] = field(default_factory=dict)
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    groups: Int[Tensor, " example"] | None = None
    controls: Float[Tensor, "*cells draw"] | None = None
    seed: int = 0
    resolution: float = 1e-5
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.per_example.ndim != len(self.axes) + 1 or not self.axes:
            raise ValueError(
                f"per_example must have one axis for each of {self.axes} and a last one of examples; got "
                f"shape {tuple(self.per_example.shape)}"
            )
        if self.direction not in ("denoise", "noise", "ablate"):
            raise ValueError(f"direction must be 'denoise', 'noise' or 'ablate'; got {self.direction!r}")
        if self.direction != "ablate" and self.baseline.corrupt is None:
            raise ValueError(f"direction {self.direction!r} needs the corrupt run's values in the baseline")
        by_example = {"clean": self.baseline.clean, "corrupt": self.baseline.corrupt, "groups": self.groups}
        for name, tensor in by_example.items():
            if tensor is not None and tensor.shape != self.per_example.shape[-1:]:
                raise ValueError(
                    f"{name} must have one value for each of {self.per_example.shape[-1]} examples; got "
                    f"shape {tuple(tensor.shape)}"
                )
        cells = self.per_example.shape[:-1]
        if self.controls is not None and (
            self.controls.ndim != self.per_example.ndim or self.controls.shape[:-1] != cells
        ):
            raise ValueError(
                f"controls must have the cells' axes {tuple(cells)} and a last one of draws; got shape "
                f"{tuple(self.controls.shape)}"
            )
        sizes = dict(zip(self.axes, cells, strict=True))
        for what in ("coordinates", "labels"):
            for axis, names in getattr(self, what).items():
                if len(names) != sizes.get(axis, -1):
                    raise ValueError(f"{what} of {axis!r} name {len(names)} entries; the axes are {sizes}")
        missing = self.per_example.isnan()
        if bool((missing.any(-1) & ~missing.all(-1)).any()):
            raise ValueError("a cell is NaN for some examples but not all; leave no example of a cell out")

    @property
    def values(self) -> Float[Tensor, "*cells"]:
        """The metric's mean over examples under each cell, not normalised; NaN where no cell is."""
        return self.per_example.mean(-1)

    @cached_property
    def effects_per_example(self) -> Float[Tensor, "*cells example"]:
        """Each example's effect, as `direction` defines it, in the metric's unit."""
        return effects_of(self.per_example, self.baseline, self.direction)

    @property
    def effects(self) -> Float[Tensor, "*cells"]:
        """The mean effect of each cell, in the metric's unit."""
        return self.effects_per_example.mean(-1)

    @property
    def normalised(self) -> Float[Tensor, "*cells"]:
        """The mean effect over the mean difference that it could make; all NaN where that is `undefined`."""
        return self.effects / (torch.nan if self.undefined else self._whole)

    @property
    def undefined(self) -> str | None:
        """Why there is no normalised effect, or None where there is one."""
        clean, corrupt = self.baseline.clean_mean, self.baseline.corrupt_mean
        if abs(self._whole) > 1e-6 * max(abs(clean), abs(corrupt or 0.0)):
            return None
        if self.direction == "ablate":
            return f"the clean run's mean {self.metric} is 0, so nothing can be lost of it"
        return f"the clean and the corrupt run have the same mean {self.metric} ({clean:.6g})"

    @property
    def _whole(self) -> float:
        corrupt = self.baseline.corrupt_mean
        if self.direction == "ablate" or corrupt is None:
            return abs(self.baseline.clean_mean)
        return self.baseline.clean_mean - corrupt

    @cached_property
    def frame(self) -> pd.DataFrame:
        """A row a cell: `tidy()` with its defaults."""
        return self.tidy()

    def tidy(
        self, *, level: float = 0.95, correction: Literal["max-t", "bh"] = "max-t", draws: int = 10_000
    ) -> pd.DataFrame:
        """Lay the result out as a row a cell; cells that don't exist are absent.

        Columns: the axes, the labels of axes that have them (`position_label`), `value`, `effect`,
        `normalised`, for heads and sets of them the control (below), the effect's bootstrap interval `low` and `high`,
        `effect_size` (Hedges' g), the sign-flip `p`, `p_corrected` over all cells (step-down max-T, or
        Benjamini-Hochberg) and `significant` (`p_corrected` < 1 − level). With one example, or one group, there is no
        such interval or test: those columns are NaN and `frame.attrs["statistics"]` says why, as `attrs["normalised"]`
        does for an undefined normalised effect.

        The control is matched in layer and number. Where the result has `controls`, it is those: random sets of as many
        heads. Otherwise, of a head, it is the other heads of its layer that the result has measured, each alone, which
        are all there are unless some heads alone were asked for. `control_n` is how many they are, `control_mean`,
        `_low` and `_high` their effects' mean and middle 95%, and `control_p` the chance that one of them, or the cell
        itself, does at least as much in magnitude, which is never under 1 / (1 + `control_n`). A residual stream, an
        attention layer or an MLP is the only one of its layer, and has no such control: NaN, and a `control_n` of 0.

        >>> baseline = Baseline(torch.full((2,), 5.0))
        >>> result = Result(torch.zeros(1, 2, 2), ("layer", "head"), baseline, "ablate", "kl")
        >>> result.frame[["layer", "head", "effect", "normalised"]].values.tolist()
        [[0.0, 0.0, 5.0, 1.0], [0.0, 1.0, 5.0, 1.0]]
        """
        effects = self.effects_per_example
        cells = effects.shape[:-1]
        columns: dict[str, Any] = {}
        for index, axis in zip(np.indices(cells), self.axes, strict=True):
            names = np.array(self.coordinates.get(axis, range(cells[self.axes.index(axis)])))
            columns[axis] = names[index].ravel()
            if axis in self.labels:
                columns[f"{axis}_label"] = np.array(self.labels[axis], dtype=object)[index].ravel()
        measured = {"value": self.values, "effect": self.effects, "normalised": self.normalised}
        columns |= {name: as_array(tensor).ravel() for name, tensor in measured.items()}
        if self.controls is not None or "head" in self.axes:
            others = (
                statistics.against_others(self.effects, self.axes.index("head"), level=level)
                if self.controls is None
                else _against_drawn(self.effects, self.controls, level=level)
            )
            columns |= {f"control_{name}": getattr(others, name).ravel() for name in ("mean", "low", "high", "p")}
            columns["control_n"] = others.n_others.ravel()
        frame = pd.DataFrame(columns)
        reason = self._too_few
        if reason is None:
            above_rounding = torch.where(effects.abs() <= self._rounding, 0.0, effects)
            test = statistics.sign_flip_test(above_rounding, seed=self.seed, draws=draws, groups=self.groups)
            low, high = statistics.bootstrap_mean(effects, seed=self.seed, level=level, groups=self.groups)
            corrected = test.p_corrected if correction == "max-t" else statistics.benjamini_hochberg(test.p)
            sure = {"low": low, "high": high, "p": test.p, "p_corrected": corrected}
        else:
            sure = {name: np.full(cells, np.nan) for name in ("low", "high", "p", "p_corrected")}
        for name, values in sure.items():
            frame[name] = values.ravel()
        several = effects.shape[-1] > 2
        frame["effect_size"] = statistics.effect_size(effects).ravel() if several else np.nan
        frame["significant"] = frame["p_corrected"] < 1 - level
        frame.attrs = {k: v for k, v in {"statistics": reason, "normalised": self.undefined}.items() if v}
        real: pd.DataFrame = frame.loc[~np.isnan(columns["value"])].reset_index(drop=True)
        return real

    @property
    def significant(self) -> Bool[Tensor, "*cells"]:
        """Which cells survive the correction of `frame`."""
        survives = torch.zeros_like(self.values, dtype=torch.bool)
        survives[~self.values.isnan()] = torch.tensor(
            self.frame["significant"].tolist(), dtype=torch.bool, device=survives.device
        )
        return survives

    @property
    def _rounding(self) -> float:
        measured = [self.per_example, self.baseline.clean, self.baseline.corrupt]
        largest = max(float(t.abs().nan_to_num(0.0).max()) for t in measured if t is not None)
        return self.resolution * largest

    @property
    def _too_few(self) -> str | None:
        if self.per_example.shape[-1] < 2:
            return "one example gives no interval and no test; use more prompts"
        if self.groups is not None and len(set(self.groups.tolist())) < 2:
            return "one group of examples gives no interval and no test; use more groups"
        return None

    def top(self, n: int = 5, *, by: Column = "effect") -> pd.DataFrame:
        """The `n` rows of `frame` that are largest in magnitude, largest first.

        >>> values, baseline = torch.tensor([[1.0, 1.0], [0.0, 0.0]]), Baseline(torch.ones(2))
        >>> result = Result(values, ("layer",), baseline, "ablate", "probability")
        >>> result.top(1)["layer"].tolist()
        [1]
        """
        order = self.frame[by].abs().sort_values(ascending=False, kind="stable").index
        return self.frame.loc[order[:n]].reset_index(drop=True)

    def plot(self, *, of: Column | None = None, axes: Axes | None = None) -> Axes:
        """Draw bars (one axis of cells), a map (two) or panels (more), marked where cells survive correction.

        Shows the normalised effect unless told otherwise, or the effect where that is undefined. Of panels, the first
        one's axes are given; `.figure` has them all, and `plots.save` writes them all. Raises ValueError for a
        normalised effect that is undefined, and for panels that are to be drawn on given axes.
        """
        from circuitkit import plots

        return plots.of_result(self, of=of, axes=axes)

    def _strongest(self) -> pd.DataFrame:
        shown = ("effect", "low", "high", "normalised", "control_mean", "p_corrected", "significant")
        rows = self.top(len(self.frame))
        named = [name for axis in self.axes for name in (axis, f"{axis}_label")]
        untested = {"significant"} if "statistics" in self.frame.attrs else set()
        return rows[[name for name in (*named, *shown) if name in rows and name not in untested]]

    def __repr__(self) -> str:
        sizes = " x ".join(str(size) for size in self.per_example.shape[:-1])
        n = self.per_example.shape[-1]
        return (
            f"Result({self.title!r}, {sizes} cells ({', '.join(self.axes)}), {n} example{'s' * (n != 1)}, "
            f"{self.direction}, {self.metric})"
        )

    def save(self, path: str | Path) -> Path:
        """Write the result to one safetensors file, whole or not at all, and give its path.

        A folder gets `result.safetensors`. Raises ValueError for a file of another suffix.
        """
        tensors = {
            "per_example": self.per_example,
            "clean": self.baseline.clean,
            "corrupt": self.baseline.corrupt,
            "groups": self.groups,
            "controls": self.controls,
        }
        present = {name: tensor for name, tensor in tensors.items() if tensor is not None}
        return saving.save(path, "result", present, self._described())

    def to_csv(self, path: str | Path) -> Path:
        """Write `frame` as CSV, whole or not at all, and give the path."""
        path = Path(path)
        with whole_file(path) as beside:
            self.frame.to_csv(beside, index=False)
        return path

    def _described(self) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "axes": list(self.axes),
            "direction": self.direction,
            "metric": self.metric,
            "unit": self.unit,
            "title": self.title,
            "coordinates": {axis: list(names) for axis, names in self.coordinates.items()},
            "labels": {axis: list(names) for axis, names in self.labels.items()},
            "seed": self.seed,
            "resolution": self.resolution,
            "provenance": dict(self.provenance),
        }

    @classmethod
    def load(cls, path: str | Path) -> Result:
        """Read a result that `save` wrote, from its file or its folder.

        Raises FileNotFoundError where there is none, and ValueError, naming the file, where it is cut short,
        not a result, or from a later version.
        """
        tensors, told = saving.load(path, "result")
        if told.pop("format") != _FORMAT:
            raise ValueError(f"{path}: written by a later circuitkit; upgrade to read it")
        for what in ("coordinates", "labels"):
            told[what] = {axis: tuple(names) for axis, names in told[what].items()}
        told["axes"] = tuple(told["axes"])
        baseline = Baseline(tensors["clean"], tensors.get("corrupt"))
        return cls(
            per_example=tensors["per_example"],
            baseline=baseline,
            groups=tensors.get("groups"),
            controls=tensors.get("controls"),
            **told,
        )

    def __eq__(self, other: object) -> bool:
        """Equal values, names and provenance; a NaN equals a NaN."""
        if not isinstance(other, Result):
            return NotImplemented
        pairs = [
            (self.per_example, other.per_example),
            (self.baseline.clean, other.baseline.clean),
            (self.baseline.corrupt, other.baseline.corrupt),
            (self.groups, other.groups),
            (self.controls, other.controls),
        ]
        # As JSON, where a tuple in the provenance equals the list that it loads as.
        told = [json.dumps(result._described(), sort_keys=True) for result in (self, other)]
        return told[0] == told[1] and all(_same(a, b) for a, b in pairs)

    __hash__ = None  # type: ignore[assignment]  # compared by value, and its tensors can change


def _against_drawn(
    effects: Float[Tensor, "*cells"], controls: Float[Tensor, "*cells draw"], *, level: float
) -> statistics.Others:
    """Each cell's effect among those of its random sets; NaN where it has none."""
    cells, drawn = as_array(effects), as_array(controls)
    count = (~np.isnan(drawn)).sum(-1) * ~np.isnan(cells)
    mean, low, high, p = np.full((4, *cells.shape), np.nan)
    for at in zip(*count.nonzero(), strict=True):
        control = statistics.against_controls(float(cells[at]), drawn[at][~np.isnan(drawn[at])].tolist(), level=level)
        mean[at], low[at], high[at], p[at] = control.mean, control.low, control.high, control.p
    return statistics.Others(mean, low, high, p, count)


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    a, b = a.cpu(), b.cpu()
    return bool(((a == b) | ((a != a) & (b != b))).all())
