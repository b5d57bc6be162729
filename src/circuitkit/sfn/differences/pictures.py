"""The figures of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes

from circuitkit import plots
from circuitkit.plots.sfn_histograms import ChangeShape
from circuitkit.sfn.differences.bimodality import NEAR_BINS, Shapes
from circuitkit.sfn.differences.joining import check_measure, joined, shown_modules
from circuitkit.sfn.differences.relative_change import EDGES, Histogram
from circuitkit.sfn.errors import SelectionError

Heights = Float[np.ndarray, " bin"]

_EVERY, _MANY = 5, 10
_UNITS: Mapping[str, str] = {
    "norm": "‖B − A‖",
    "combined": "‖B − A‖ of weight + ‖B − A‖ of bias",
    "bias_norm": "‖B − A‖ of the bias",
    "norm_a": "‖A‖",
    "norm_b": "‖B‖",
    "relative": "‖B − A‖ / ‖A‖",
    "rms": "‖B − A‖ / √elements",
    "cosine": "cosine of A and B",
    "cosine_with_a": "cosine of B − A and A",
    "stable_rank": "stable rank of B − A",
    "unchanged": "share of weights that did not change",
    "depth": "depth of the hollow at zero",
    "step_norm": "‖change since the checkpoint before‖",
    "step_cosine": "cosine with the checkpoint before",
    "onward": "cosine of the step with the way so far",
    "path": "sum of ‖steps‖",
    "straightness": "‖B − A‖ / sum of ‖steps‖",
}
_SIGNED = ("cosine_with_a", "onward")
_FORMULAS = {"paper": "(B − A) / A", "code": "(B − A) / (|A| + 1e-8)"}


@dataclass(frozen=True, eq=False)
class Found:
    """The rows of one checkpoint, and what `Delta` has of histograms, by the rows' index."""

    rows: pd.DataFrame
    histograms: tuple[Histogram, ...]
    shapes: tuple[Shapes, ...]


def heat_map(table: pd.DataFrame, of: str, title: str, axes: Axes | None) -> Axes:
    """A measure by layer and module."""
    inside = table[table.index >= 0] if (table.index >= 0).any() else table
    return plots.heatmap(
        inside.to_numpy(dtype=np.float64),
        title=f"{_named(of)}\n{title}",
        row_name="layer",
        column_name="module",
        unit=_UNITS.get(of, of),
        row_labels=[str(layer) if layer >= 0 else "none" for layer in inside.index],
        column_labels=[str(name) for name in inside.columns],
        centre=0.0 if of in _SIGNED else None,
        axes=axes,
    )


def heads(rows: pd.DataFrame, of: str, modules: Sequence[str] | None, title: str) -> Axes:
    """A measure by layer and head, a panel a projection.

    Raises:
        SelectionError: heads were not asked for, or there are none.
    """
    if not len(rows):
        raise SelectionError("no heads were measured: ask for them with per_head=True, of attention projections")
    check_measure(rows, of)
    names = shown_modules(rows, modules)
    layers, count = sorted(rows["layer"].unique()), int(rows["head"].max()) + 1
    values = np.full((len(names), len(layers), count), np.nan)
    cells = rows[rows["module"].isin(names)].groupby(["module", "layer", "head"])
    for key, group in cells:
        module, layer, head = key
        values[names.index(str(module)), layers.index(layer), int(str(head))] = joined(group, of)
    return plots.panels(
        values,
        names=names,
        title=f"{_named(of)} by head\n{title}",
        row_name="layer",
        column_name="head",
        unit=_UNITS.get(of, of),
        row_labels=[str(layer) for layer in layers],
        centre=0.0 if of in _SIGNED else None,
    )


def steps(rows: pd.DataFrame, of: str, modules: Sequence[str] | None, title: str, axes: Axes | None) -> Axes:
    """A measure by step, a line a module over all its layers."""
    check_measure(rows, of)
    names = shown_modules(rows, modules)
    order = list(dict.fromkeys(rows["step"]))
    cells = {key: joined(group, of) for key, group in rows.groupby(["module", "step"], sort=False)}
    curves = {name: np.array([cells.get((name, step), np.nan) for step in order]) for name in names}
    called = rows.drop_duplicates("step")["checkpoint"].astype(str)
    return plots.module_trajectory(
        curves,
        np.array(order, dtype=np.float64),
        title=f"{_named(of)}\n{title}",
        unit=_UNITS.get(of, of),
        names=[name.rstrip("/").rpartition("/")[2] for name in called],
        axes=axes,
    )


def histograms(
    found: Found, modules: Sequence[str] | None, layers: Sequence[int] | None, scale: str, title: str
) -> Axes:
    """Histograms of relative change with their controls, a row a layer and a column a module.

    Raises:
        SelectionError: there are none of that scale, or no such layer.
    """
    if scale not in ("paper", "own"):
        raise SelectionError(f"the scale of histograms is 'paper' or 'own', not {scale!r}")
    if scale == "paper" and not found.histograms:
        raise SelectionError("no histograms were made: ask for them with histogram='paper' or 'code'")
    if scale == "own" and not found.shapes:
        raise SelectionError("no modes were looked for: ask for them with bimodality=True")
    rows = found.rows[found.rows["module"].isin(shown_modules(found.rows, modules))]
    chosen = _layers(rows, layers)
    drawn = [
        _paper(found, group, str(module), layer) if scale == "paper" else _own(found, group, str(module), layer)
        for module in shown_modules(found.rows, modules)
        for layer in chosen
        if len(group := rows[(rows["module"] == module) & (rows["layer"] == layer)])
    ]
    formula = found.histograms[0].formula if found.histograms else "paper"
    unit = "relative change of a weight, " + _FORMULAS[formula]
    if scale == "own":
        unit += ", as a share of each module's own range"
    return plots.relative_changes(drawn, title=f"Relative change of weights\n{title}", unit=unit)


def _layers(rows: pd.DataFrame, layers: Sequence[int] | None) -> list[int]:
    there = sorted(int(layer) for layer in rows["layer"].unique())
    if layers is None:
        return there if len(there) <= _MANY else there[::_EVERY]
    if missing := [layer for layer in layers if layer not in there]:
        raise SelectionError(f"layer {missing[0]} was not compared; compared were {', '.join(map(str, there))}")
    return list(layers)


def _paper(found: Found, group: pd.DataFrame, module: str, layer: int) -> ChangeShape:
    every = [found.histograms[index] for index in group.index]
    counts = np.sum([each.counts for each in every], axis=0)
    entries = int(counts.sum()) + sum(each.zeros + each.beyond for each in every)
    shapes = [found.shapes[index] for index in group.index] if found.shapes else []
    controls = _controls([shape.shuffled for shape in shapes], [shape.rounding for shape in shapes])
    return ChangeShape(_row(layer), module, EDGES, counts / max(1, entries), controls, _note(group))


def _own(found: Found, group: pd.DataFrame, module: str, layer: int) -> ChangeShape:
    # Several weights of one layer have ranges of their own, and are laid over each other.
    shapes = [found.shapes[index] for index in group.index]
    controls = _controls([shape.near_shuffled for shape in shapes], [shape.near_rounding for shape in shapes])
    note = _note(group) + (f" (±{shapes[0].reach:.1g})" if len(shapes) == 1 else "")
    edges = np.linspace(-1.0, 1.0, NEAR_BINS + 1)
    return ChangeShape(_row(layer), module, edges, np.mean([s.near for s in shapes], axis=0), controls, note)


def _controls(shuffled: Sequence[Heights], rounding: Sequence[Heights]) -> dict[str, Heights]:
    """The controls of a module, by what the legend calls them; none where no modes were looked for."""
    named = {"the same changes, shuffled among the weights": shuffled, "Gaussian changes, rounded": rounding}
    return {name: np.asarray(np.mean(each, axis=0)) for name, each in named.items() if each}


def _row(layer: int) -> str:
    return f"layer {layer}" if layer >= 0 else "no layer"


def _note(group: pd.DataFrame) -> str:
    return " / ".join(dict.fromkeys(group["verdict"])) if "verdict" in group else ""


def _named(of: str) -> str:
    names = {
        "combined": "Norm of the change, weight and bias added up",
        "norm": "Norm of the change",
        "relative": "Norm of the change, relative to A's",
        "rms": "Root mean square of the change",
    }
    return names.get(of, of.replace("_", " ").capitalize())
