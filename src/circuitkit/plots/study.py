"""The picture of a study's result: bars of one axis of cells, a map of two, panels of more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from torch import Tensor

from circuitkit.plots.edges import edge_map
from circuitkit.plots.effects import bars
from circuitkit.plots.grid import heatmap
from circuitkit.plots.panels import panels

if TYPE_CHECKING:
    from circuitkit.results import Column, Result


def of_result(result: Result, *, of: Column | None = None, axes: Axes | None = None) -> Axes:
    """Draw a result's value, effect or normalised effect, marked where its cells survive correction.

    One axis of cells is drawn as bars, two as a heat map, query by key as an edge map, and more as panels, one for each
    entry of the leading axes; then the axes of the first panel are given, and their `.figure` has them all.

    Shows the normalised effect unless told otherwise, or the effect where that is undefined. Raises ValueError for a
    normalised effect that is undefined, and for panels that are to be drawn on given axes.

    >>> import torch
    >>> from circuitkit.results import Baseline, Result
    >>> baseline = Baseline(torch.ones(4))
    >>> study = Result(torch.rand(2, 3, 4), ("layer", "head"), baseline, "ablate", "probability")
    >>> of_result(study).get_xlabel()
    'head'
    """
    of = of or ("effect" if result.undefined else "normalised")
    if of == "normalised" and result.undefined:
        raise ValueError(f"there is no normalised effect: {result.undefined}; plot the effect")
    shown = {"value": result.values, "effect": result.effects, "normalised": result.normalised}[of]
    names = [[*map(str, _entries(result, axis, n))] for axis, n in zip(result.axes, shown.shape, strict=True)]
    if len(result.axes) == 1:
        return _as_bars(result, of, shown, names[0], axes)
    marks = None if "statistics" in result.frame.attrs else result.significant
    look: dict[str, Any] = {"title": title_of(result), "unit": unit_of(result, of), "centre": _centre(result, of)}
    if len(result.axes) > 2:
        if axes is not None:
            raise ValueError(f"a result over {result.axes} is drawn as panels on a figure of their own: give no axes")
        return _as_panels(result, shown, names, marks, look)
    if result.axes == ("query", "key"):
        return edge_map(shown, queries=names[0], keys=names[1], significant=marks, axes=axes, **look)
    row, column = result.axes
    return heatmap(
        shown,
        row_name=row,
        column_name=column,
        row_labels=names[0],
        column_labels=names[1],
        significant=marks,
        axes=axes,
        **look,
    )


def _as_panels(
    result: Result,
    shown: Float[Tensor, "*cells"],
    names: Sequence[Sequence[str]],
    marks: Bool[Tensor, "*cells"] | None,
    look: Mapping[str, Any],
) -> Axes:
    flat = (-1, *shown.shape[-2:])
    leading = [[f"{axis} {one}" for one in entries] for axis, entries in zip(result.axes, names[:-2], strict=False)]
    complete = not bool(shown.isnan().all(-1).all(-1).any())
    return panels(
        shown.reshape(flat),
        names=[", ".join(parts) for parts in product(*leading)],
        row_name=result.axes[-2],
        column_name=result.axes[-1],
        row_labels=names[-2],
        column_labels=names[-1],
        significant=None if marks is None else marks.reshape(flat),
        # A line of panels for each layer, where all of its heads have one.
        abreast=len(leading[-1]) if len(leading) > 1 and complete else None,
        **look,
    )


def _as_bars(
    result: Result, of: Column, shown: Float[Tensor, " cell"], names: Sequence[str], axes: Axes | None
) -> Axes:
    real = ~shown.isnan()
    ends = None
    if of == "effect" and bool(result.frame["low"].notna().all()):
        ends = (result.frame["low"].to_numpy(), result.frame["high"].to_numpy())
    return bars(
        shown[real],
        labels=[name for name, there in zip(names, real.tolist(), strict=True) if there],
        title=title_of(result),
        unit=unit_of(result, of),
        name=result.axes[0],
        interval=ends,
        axes=axes,
    )


def title_of(result: Result) -> str:
    """A figure's title: what was done to which model, and on how many examples."""
    title = result.title or f"{_VERB[result.direction]}: {result.metric.replace('_', ' ')}"
    return f"{title}\n{_told(result)}"


def unit_of(result: Result, of: Column) -> str:
    """What a figure's numbers are, with their unit."""
    if of == "normalised":
        return _WHOLE[result.direction]
    counted = f" [{result.unit}]" if result.unit else ""
    metric = result.metric.replace("_", " ")
    return f"{metric}{counted}" if of == "value" else f"{metric}, {_PART[result.direction]}{counted}"


_VERB = {
    "denoise": "Clean activations in the corrupt run",
    "noise": "Corrupt activations in the clean run",
    "ablate": "Ablation in the clean run",
}
_WHOLE = {
    "denoise": "share of clean − corrupt restored",
    "noise": "share of clean − corrupt lost",
    "ablate": "share of the clean value lost",
}
_PART = {"denoise": "value − corrupt", "noise": "clean − value", "ablate": "clean − value"}


def _entries(result: Result, axis: str, n: int) -> tuple[str, ...] | tuple[int | str, ...]:
    return result.labels.get(axis) or result.coordinates.get(axis) or tuple(range(n))


def _centre(result: Result, of: Column) -> float:
    if of != "value":
        return 0.0
    corrupt = result.baseline.corrupt_mean
    return corrupt if result.direction == "denoise" and corrupt is not None else result.baseline.clean_mean


def _told(result: Result) -> str:
    baseline = result.baseline
    corrupt = "" if baseline.corrupt_mean is None else f", corrupt {baseline.corrupt_mean:.3g}"
    n = len(baseline.clean)
    return f"{n} example{'s' * (n != 1)}, clean {baseline.clean_mean:.3g}{corrupt}, seed {result.seed}"
