"""The picture of a study's result: a heat map of two axes of cells, or bars of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.axes import Axes

from circuitkit.plots.effects import bars
from circuitkit.plots.grid import heatmap

if TYPE_CHECKING:
    from circuitkit.results import Column, Result


def of_result(result: Result, *, of: Column | None = None, axes: Axes | None = None) -> Axes:
    """Draw a result's value, effect or normalised effect, marked where its cells survive correction.

    Shows the normalised effect unless told otherwise, or the effect where that is undefined. Raises
    ValueError for more than two axes of cells, or for a normalised effect that is undefined.

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
    if len(result.axes) > 2:
        raise ValueError(
            f"a result over {result.axes} has too many axes for one picture; slice .values and use "
            "circuitkit.plots.heatmap"
        )
    shown = {"value": result.values, "effect": result.effects, "normalised": result.normalised}[of]
    title = result.title or f"{_VERB[result.direction]}: {result.metric.replace('_', ' ')}"
    names = [[*map(str, _entries(result, axis, n))] for axis, n in zip(result.axes, shown.shape, strict=True)]
    if len(result.axes) == 2:
        return heatmap(
            shown,
            title=f"{title}\n{_told(result)}",
            row_name=result.axes[0],
            column_name=result.axes[1],
            unit=_unit(result, of),
            row_labels=names[0],
            column_labels=names[1],
            significant=None if "statistics" in result.frame.attrs else result.significant,
            centre=_centre(result, of),
            axes=axes,
        )
    real = ~shown.isnan()
    ends = None
    if of == "effect" and bool(result.frame["low"].notna().all()):
        ends = (result.frame["low"].to_numpy(), result.frame["high"].to_numpy())
    return bars(
        shown[real],
        labels=[name for name, there in zip(names[0], real.tolist(), strict=True) if there],
        title=f"{title}\n{_told(result)}",
        unit=_unit(result, of),
        name=result.axes[0],
        interval=ends,
        axes=axes,
    )


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


def _unit(result: Result, of: Column) -> str:
    if of == "normalised":
        return _WHOLE[result.direction]
    counted = f" [{result.unit}]" if result.unit else ""
    metric = result.metric.replace("_", " ")
    return f"{metric}{counted}" if of == "value" else f"{metric}, {_PART[result.direction]}{counted}"


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
