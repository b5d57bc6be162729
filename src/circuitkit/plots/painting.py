"""Cells as coloured squares, and the marks on them: what heat maps, edge maps and panels share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from torch import Tensor

from circuitkit.plots.figures import MISSING, readable_on

_SURVIVES = "survives correction"


def paint(
    axes: Axes,
    table: Float[np.ndarray, "row column"],
    colour_map: Colormap,
    norm: Normalize,
    *,
    downwards: bool = False,
    square: bool = False,
) -> AxesImage:
    """Colour each cell by its value, NaN grey and hatched; the first row is the lowest, or with `downwards` the top.

    >>> from circuitkit.plots.figures import colours, new_axes
    >>> paint(new_axes(2, 2), np.eye(2), *colours(np.eye(2), 0.0)).get_array().shape
    (2, 2)
    """
    axes.set_facecolor(MISSING)
    axes.patch.set(hatch="////", edgecolor="0.7")
    return axes.imshow(
        np.ma.masked_invalid(table),
        cmap=colour_map,
        norm=norm,
        aspect="equal" if square else "auto",
        origin="upper" if downwards else "lower",
    )


def write_values(
    axes: Axes, image: AxesImage, table: Float[np.ndarray, "row column"], bold: Bool[np.ndarray, "row column"]
) -> None:
    """Write each cell's value into it, in black or white as can be read on its colour, some of them bold."""
    largest = np.nanmax(np.abs(table)) if np.isfinite(table).any() else 0.0
    places = 2 if largest < 10 else 1 if largest < 100 else 0
    for (row, column), value in np.ndenumerate(table):
        if np.isfinite(value):
            axes.text(
                column,
                row,
                # A value that rounds to zero has no sign to tell.
                f"{round(float(value), places) + 0.0:.{places}f}".replace("-", "−"),
                ha="center",
                va="center",
                fontsize=8,
                fontweight="bold" if bold[row, column] else "normal",
                color=readable_on(image.cmap(image.norm(value))),
            )


def dots(axes: Axes, survives: Bool[np.ndarray, "row column"], *, size: float = 5) -> Line2D:
    """Put a dot on each cell that survives correction, and give what a legend says of it."""
    rows, columns = np.nonzero(survives)
    label = _SURVIVES if len(rows) else f"{_SURVIVES} (no cell does)"
    (drawn,) = axes.plot(columns, rows, "o", markersize=size, color="black", markeredgecolor="white", label=label)
    return drawn


def frames(axes: Axes, survives: Bool[np.ndarray, "row column"]) -> Patch:
    """Put a frame round each cell that survives correction, and give what a legend says of it."""
    for row, column in zip(*np.nonzero(survives), strict=True):
        corner = (float(column) - 0.46, float(row) - 0.46)
        axes.add_patch(Rectangle(corner, 0.92, 0.92, fill=False, edgecolor="black", linewidth=1.8))
    label = _SURVIVES if survives.any() else f"{_SURVIVES} (no cell does)"
    return Patch(facecolor="none", edgecolor="black", linewidth=1.8, label=label)


def absent(label: str) -> Patch:
    """What a legend says of the hatched cells."""
    return Patch(facecolor=MISSING, edgecolor="0.6", hatch="////", label=label)


def checked_labels(labels: Sequence[str] | None, n: int, name: str) -> Sequence[str]:
    """The labels of an axis, numbers if there are none; raises ValueError where they are too few or too many."""
    if labels is None:
        return [str(i) for i in range(n)]
    if len(labels) != n:
        raise ValueError(f"{len(labels)} labels for {n} entries of {name}")
    return labels


def checked_marks(
    significant: Bool[Tensor | np.ndarray, "*cells"] | None, table: Float[np.ndarray, "*cells"]
) -> Bool[np.ndarray, "*cells"] | None:
    """Which cells survive, as an array; raises ValueError where its shape is not that of the values."""
    if significant is None:
        return None
    survives = np.asarray(significant, dtype=bool)
    if survives.shape != table.shape:
        raise ValueError(f"significant has shape {survives.shape}, the values {table.shape}")
    return survives
