"""Small multiples: results of three axes or four as one panel per entry of the leading ones, on one colour scale."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, sqrt

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from circuitkit.plots.edges import NO_EDGE
from circuitkit.plots.figures import NewFigure, colours, explain, label_entries
from circuitkit.plots.painting import absent, checked_labels, checked_marks, dots, paint
from circuitkit.statistics.cells import as_array

_MOST_PANELS = 24
_STRONGEST = 12
"""How many panels remain where there would be more than fit."""
_ABREAST = 4
"""Up to how many panels stand in one line."""
_LEAST, _WIDEST, _WHOLE = 1.5, 4.0, 17.0
"""Inches: a panel's least and greatest side, and the figure's greatest width."""


def panels(
    values: Float[Tensor | np.ndarray, "panel row column"],
    *,
    names: Sequence[str],
    title: str,
    row_name: str,
    column_name: str,
    unit: str,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    significant: Bool[Tensor | np.ndarray, "panel row column"] | None = None,
    centre: float | None = 0.0,
    abreast: int | None = None,
) -> Axes:
    """Draw heat maps side by side on one colour scale, and give the first one's axes; `.figure` has them all.

    A panel is called by its name in `names`. Panels that are NaN throughout, such as heads that a layer lacks, are left
    out. Of more than 24, the 12 with the largest difference from `centre` (from 0 if None) are drawn, strongest first,
    and the title says how many are not. `abreast` is how many stand in a row, where the figure has room for them.
    Rows named "query" run downwards, as in attention patterns. Raises ValueError where shapes and names disagree, or
    all is NaN.

    >>> drawn = panels(np.ones((2, 3, 4)), names=["layer 0", "layer 1"], title="Effect", row_name="head",
    ...                column_name="position", unit="logits")
    >>> drawn.get_title(), len(drawn.figure.axes)
    ('layer 0', 3)
    """
    table = as_array(values)
    if table.ndim != 3:
        raise ValueError(f"panels need values [panel, row, column]; got shape {table.shape}")
    names = checked_labels(names, len(table), "panel")
    rows = checked_labels(row_labels, table.shape[1], row_name)
    columns = checked_labels(column_labels, table.shape[2], column_name)
    survives = checked_marks(significant, table)
    drawn, left_out = _chosen(table, centre or 0.0)
    if left_out:
        title = f"{title}\nthe {len(drawn)} strongest panels, strongest first; {left_out} weaker ones are left out"
        abreast = None
    edges = (row_name, column_name) == ("query", "key")
    size = (_side(len(columns), 0.17), _side(len(rows), 0.17))
    shape = _laid(len(drawn), size[0], abreast)
    figure, grid = _canvas(shape, size, rows, columns)
    colour_map, norm = colours(table[drawn], centre)
    every = [axes for line in grid for axes in line]
    for axes, panel in zip(every, drawn, strict=False):
        image = paint(axes, table[panel], colour_map, norm, downwards=edges)
        axes.set_title(names[panel], fontsize=9)
        mark = None if survives is None else dots(axes, survives[panel], size=3.5)
    for axes in every[len(drawn) :]:
        axes.remove()
    _label(every[: len(drawn)], shape[1], size, (row_name, rows), (column_name, columns))
    figure.suptitle(title, fontsize=10)
    figure.colorbar(image, ax=every[: len(drawn)], label=unit, pad=0.02, aspect=figure.get_figheight() / 0.25)
    notes = [] if survives is None or mark is None else [mark]
    if survives is not None and mark is not None:
        mark.set_label("survives correction" if survives[drawn].any() else "survives correction (no cell does)")
    gaps = [absent(NO_EDGE if edges else "no such cell")] if np.isnan(table[drawn]).any() else []
    if notes or gaps:
        explain(every[0], [*notes, *gaps], alone=True)
    return every[0]


def _chosen(table: NDArray[np.float64], centre: float) -> tuple[list[int], int]:
    """Which panels are drawn, and how many that could be are not."""
    there = [i for i, panel in enumerate(table) if np.isfinite(panel).any()]
    if not there:
        raise ValueError("every cell is NaN, so there is nothing to draw")
    if len(there) <= _MOST_PANELS:
        return there, 0
    strength = {i: float(np.nanmax(np.abs(table[i] - centre))) for i in there}
    return sorted(there, key=lambda i: -strength[i])[:_STRONGEST], len(there) - _STRONGEST


def _side(n: int, each: float) -> float:
    return min(_WIDEST, max(_LEAST, each * n))


def _laid(n: int, width: float, abreast: int | None) -> tuple[int, int]:
    """Rows and columns of panels: as many abreast as asked for, or about a square of them."""
    room = max(1, int((_WHOLE - 2.0) / (width + 0.25)))
    across = abreast if abreast is not None and abreast <= room else min(room, n if n <= _ABREAST else ceil(sqrt(n)))
    across = min(across, n)
    return ceil(n / across), across


def _canvas(
    shape: tuple[int, int], size: tuple[float, float], rows: Sequence[str], columns: Sequence[str]
) -> tuple[Figure, list[list[Axes]]]:
    """A figure for so many panels of a size, with room for labels at the left and below."""
    row_text, column_text = (0.07 * min(14, max((len(text) for text in names), default=0)) for names in (rows, columns))
    figure = NewFigure(shape[1] * (size[0] + 0.25) + row_text + 1.9, shape[0] * (size[1] + 0.35) + column_text + 1.4)
    return figure, figure.subplots(*shape, squeeze=False).tolist()


def _label(
    every: Sequence[Axes],
    across: int,
    size: tuple[float, float],
    row: tuple[str, Sequence[str]],
    column: tuple[str, Sequence[str]],
) -> None:
    """Labels at the left of each line of panels and under the lowest of each column, as many as there is room for."""
    for i, axes in enumerate(every):
        if i % across == 0:
            label_entries(axes.yaxis, row[1], most=int(size[1] / 0.15))
            axes.set_ylabel(row[0])
        else:
            axes.set_yticks([])
        if i + across >= len(every):
            rotated = max(map(len, column[1]), default=0) > 2
            label_entries(axes.xaxis, column[1], rotated=rotated, most=int(size[0] / 0.15))
            axes.set_xlabel(column[0])
        else:
            axes.set_xticks([])
