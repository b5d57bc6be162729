"""Heat maps: layer by position, layer by head, or any two axes of cells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from torch import Tensor

from circuitkit.plots.figures import MISSING, colours, explain, label_entries, new_axes
from circuitkit.statistics.cells import as_array


def heatmap(
    values: Float[Tensor | np.ndarray, "row column"],
    *,
    title: str,
    row_name: str,
    column_name: str,
    unit: str,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    significant: Bool[Tensor | np.ndarray, "row column"] | None = None,
    centre: float | None = 0.0,
    axes: Axes | None = None,
) -> Axes:
    """Draw values as a heat map, its rows upwards, with dots on the cells that survive correction.

    Colours diverge about `centre`, or are sequential where it is None. NaN cells are grey and hatched. Raises
    ValueError where shapes and labels disagree.

    >>> heatmap(np.eye(3), title="Effect", row_name="layer", column_name="head", unit="logits").get_title()
    'Effect'
    """
    table = as_array(values)
    if table.ndim != 2:
        raise ValueError(f"a heat map needs values [row, column]; got shape {table.shape}")
    n_rows, n_columns = table.shape
    rows = _labels(row_labels, n_rows, row_name)
    columns = _labels(column_labels, n_columns, column_name)
    rotated = max(map(len, columns), default=0) > 2
    height = min(14.0, 2.0 + max(0.24 * n_rows, 1.6) + 0.6 * rotated)
    alone = axes is None
    axes = axes or new_axes(min(18.0, max(5.6, 2.2 + 0.26 * n_columns)), height)
    axes.set_facecolor(MISSING)
    axes.patch.set(hatch="////", edgecolor="0.7")
    colour_map, norm = colours(table, centre)
    image = axes.imshow(np.ma.masked_invalid(table), cmap=colour_map, norm=norm, aspect="auto", origin="lower")
    figure = axes.figure
    figure.colorbar(image, ax=axes, label=unit, pad=0.02)
    label_entries(axes.yaxis, rows)
    label_entries(axes.xaxis, columns, rotated=rotated)
    axes.set_title(title, fontsize=10)
    axes.set(xlabel=column_name, ylabel=row_name)
    notes: list[Line2D | Patch] = []
    if significant is not None:
        notes.append(_mark(axes, np.asarray(significant, dtype=bool), table.shape))
    if np.isnan(table).any():
        notes.append(Patch(facecolor=MISSING, edgecolor="0.6", hatch="////", label="no such cell"))
    if notes:
        explain(axes, notes, alone=alone)
    return axes


def _labels(labels: Sequence[str] | None, n: int, name: str) -> Sequence[str]:
    if labels is None:
        return [str(i) for i in range(n)]
    if len(labels) != n:
        raise ValueError(f"{len(labels)} labels for {n} entries of {name}")
    return labels


def _mark(axes: Axes, survives: np.ndarray, shape: tuple[int, ...]) -> Line2D:
    if survives.shape != shape:
        raise ValueError(f"significant has shape {survives.shape}, the values {shape}")
    rows, columns = np.nonzero(survives)
    label = "survives correction" if len(rows) else "survives correction (no cell does)"
    (dots,) = axes.plot(columns, rows, "o", markersize=5, color="black", markeredgecolor="white", label=label)
    return dots
