"""Heat maps: layer by position, layer by head, or any two axes of cells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from torch import Tensor

from circuitkit.plots.figures import colours, explain, label_entries, new_axes
from circuitkit.plots.painting import absent, checked_labels, checked_marks, dots, paint
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
    rows = checked_labels(row_labels, n_rows, row_name)
    columns = checked_labels(column_labels, n_columns, column_name)
    survives = checked_marks(significant, table)
    rotated = max(map(len, columns), default=0) > 2
    height = min(14.0, 2.0 + max(0.24 * n_rows, 1.6) + 0.6 * rotated)
    alone = axes is None
    axes = axes or new_axes(min(18.0, max(5.6, 2.2 + 0.26 * n_columns)), height)
    image = paint(axes, table, *colours(table, centre))
    axes.figure.colorbar(image, ax=axes, label=unit, pad=0.02)
    label_entries(axes.yaxis, rows)
    label_entries(axes.xaxis, columns, rotated=rotated)
    axes.set_title(title, fontsize=10)
    axes.set(xlabel=column_name, ylabel=row_name)
    notes = [
        *([] if survives is None else [dots(axes, survives)]),
        *([absent("no such cell")] if np.isnan(table).any() else []),
    ]
    if notes:
        explain(axes, notes, alone=alone)
    return axes
