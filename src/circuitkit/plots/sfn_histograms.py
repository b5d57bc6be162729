"""Histograms of relative change: small panels, a row a layer and a column a module, each over what chance makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from circuitkit.plots.figures import NewFigure

_FOUND, _LOOKS = "#998ec3", (("#b35806", "-"), ("0.15", ":"))
_MOST_ROWS = 12


@dataclass(frozen=True, eq=False)
class ChangeShape:
    """One module's histogram, and those of its controls in the same bins.

    Attributes:
        row, column: which panel: a layer and a module, as they are shown.
        edges: of the bins.
        heights: of the bins; only their ratios are shown.
        controls: by what they are called, heights on the same scale.
        note: what stands in the panel, such as a verdict.
    """

    row: str
    column: str
    edges: Float[np.ndarray, " edge"]
    heights: Float[np.ndarray, " bin"]
    controls: Mapping[str, Float[np.ndarray, " bin"]] = field(default_factory=dict)
    note: str = ""


def relative_changes(shapes: Sequence[ChangeShape], *, title: str, unit: str) -> Axes:
    """Draw each module's histogram as an area, each divided by its largest bin, with its controls as lines.

    Gives the first panel's axes; `.figure` has them all. Raises ValueError for no histogram, for more than 12 rows, or
    for two in one panel.

    >>> shape = ChangeShape("layer 0", "o_proj", np.linspace(-1, 1, 5), np.array([1.0, 3, 3, 1]))
    >>> relative_changes([shape], title="Relative change", unit="(B − A) / A").get_title()
    'o_proj'
    """
    rows, columns = (list(dict.fromkeys(getattr(shape, what) for shape in shapes)) for what in ("row", "column"))
    if not shapes or len(rows) > _MOST_ROWS:
        raise ValueError(f"between 1 and {_MOST_ROWS} layers can be drawn as histograms; got {len(rows)}")
    placed = {(shape.row, shape.column): shape for shape in shapes}
    if len(placed) < len(shapes):
        raise ValueError("two histograms have one layer and module; give those of one checkpoint")
    figure = NewFigure(1.0 + 1.75 * max(2, len(columns)), 1.5 + 1.15 * len(rows))
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    for (i, row), (j, column) in ((r, c) for r in enumerate(rows) for c in enumerate(columns)):
        axes: Axes = grid[i, j]
        if (shape := placed.get((row, column))) is None:
            axes.set_axis_off()
        else:
            _draw(axes, shape)
        if i == 0:
            axes.set_title(column, fontsize=9)
        if j == 0:
            axes.set_ylabel(row, fontsize=8)
    figure.suptitle(title, fontsize=10)
    figure.supxlabel(unit, fontsize=8)
    figure.supylabel("weights, of the largest bin", fontsize=8)
    first: Axes = grid[0, 0]
    found = {note.get_label(): note for axes in grid.flat for note in (*axes.collections, *axes.lines)}
    drawn = [note for label, note in found.items() if not str(label).startswith("_")]
    figure.legend(handles=drawn, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return first


def _draw(axes: Axes, shape: ChangeShape) -> None:
    top = float(shape.heights.max()) or 1.0
    axes.stairs(shape.heights / top, shape.edges, fill=True, color=_FOUND)
    axes.fill_between([], [], color=_FOUND, label="changes, of the largest bin")
    middles = (shape.edges[1:] + shape.edges[:-1]) / 2
    for (name, heights), (colour, style) in zip(shape.controls.items(), _LOOKS, strict=False):
        axes.plot(middles, heights / top, style, color=colour, linewidth=1.0, label=name)
    axes.axvline(0.0, color="0.3", linewidth=0.5)
    axes.set_xlim(float(shape.edges[0]), float(shape.edges[-1]))
    axes.set_ylim(0.0, 1.3)
    axes.set_yticks([])
    axes.tick_params(labelsize=7)
    axes.text(0.03, 0.96, shape.note, transform=axes.transAxes, fontsize=7, va="top")
    axes.spines[["top", "right", "left"]].set_visible(False)
