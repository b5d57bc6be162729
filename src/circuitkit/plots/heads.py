"""The map of a decoder's heads: a value for each, and outlines round those that are told apart."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from jaxtyping import Bool, Float
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.patches import Patch, Rectangle
from torch import Tensor

from circuitkit.plots.figures import colours, explain, label_entries, new_axes
from circuitkit.plots.painting import absent, checked_marks, paint
from circuitkit.statistics.cells import as_array

_SHADES = "Blues"
"""White at nothing, so that the few heads that matter stand out, and outlines can be seen on all but the darkest."""
_OUTLINES = (("black", 0.9), ("#d55e00", 0.64), ("#cc79a7", 0.38))
"""Colour and side of the first, second and third outline, one inside the other."""
_TITLE, _UNIT = 10, 9
"""Sizes of writing, in points."""


def head_map(
    values: Float[Tensor | np.ndarray, "layer head"],
    *,
    title: str,
    unit: str,
    outlined: Mapping[str, Bool[Tensor | np.ndarray, "layer head"]] | None = None,
    centre: float | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Draw a value for each head, layers upwards and heads to the right, with outlines round named sets of heads.

    Colours go from white at 0, or diverge about `centre` where it is given. Heads that a layer does not have, NaN, are
    grey and hatched. A title and a unit that are longer than the figure go on in the next line. Raises ValueError where
    values have other axes, an outline another shape, or there are more than three.

    >>> active = np.array([[True, False], [False, True]])
    >>> head_map(np.eye(2), title="Heads", unit="times", outlined={"active at the end": active}).get_xlabel()
    'head'
    """
    table, sets = as_array(values), dict(outlined or {})
    if table.ndim != 2:
        raise ValueError(f"a head map needs values [layer, head]; got shape {table.shape}")
    if len(sets) > len(_OUTLINES):
        raise ValueError(f"{len(sets)} outlines; heads can have up to {len(_OUTLINES)}")
    layers, heads = table.shape
    alone = axes is None
    axes = axes or _new_axes(layers, heads)
    image = paint(axes, table, *_shaded(table, centre), square=True)
    across, upwards = _room(axes, alone=alone)
    bar = axes.figure.colorbar(image, ax=axes, pad=0.02)
    bar.set_label(_broken(unit, upwards, _UNIT), fontsize=_UNIT)
    label_entries(axes.yaxis, [str(layer) for layer in range(layers)])
    label_entries(axes.xaxis, [str(head) for head in range(heads)])
    axes.set_title(_broken(title, across, _TITLE), fontsize=_TITLE)
    axes.set(xlabel="head", ylabel="layer")
    notes = [
        _outline(axes, name, np.asarray(checked_marks(chosen, table)), colour, side)
        for (name, chosen), (colour, side) in zip(sets.items(), _OUTLINES, strict=False)
    ]
    if np.isnan(table).any():
        notes.append(absent("no such head"))
    if notes:
        explain(axes, notes, alone=alone)
    return axes


def _new_axes(layers: int, heads: int) -> Axes:
    axes = new_axes(min(16.0, max(5.4, 2.4 + 0.3 * heads)), min(16.0, max(3.4, 1.7 + 0.3 * layers)))
    # Cells are square: else what they leave free of the figure would all be on one side of a small map.
    axes.figure.get_figure(root=True).set_layout_engine("compressed")
    return axes


def _room(axes: Axes, *, alone: bool) -> tuple[float, float]:
    """How long a title above axes and a label beside them can be, in inches: neither is centred on the whole figure."""
    figure = axes.get_figure(root=True)
    assert figure is not None  # axes that are drawn on belong to one
    width, height = figure.get_size_inches()
    if not alone:
        place = axes.get_position()
        return width * place.width, height * place.height
    return width - 1.4, max(2.0, height - 1.7)


def _broken(text: str, inches: float, points: int) -> str:
    """Text in lines that are not longer than so many inches, as a letter is 0.6 of its height wide on average."""
    letters = max(16, int(inches * 72 / (0.6 * points)))
    return "\n".join(textwrap.fill(line, letters) for line in text.split("\n"))


def _shaded(table: Float[np.ndarray, "layer head"], centre: float | None) -> tuple[Colormap, Normalize]:
    """The colour map and its range: from white at nothing where no value lies below it."""
    shades, norm = colours(table, centre)
    if centre is not None:
        return shades, norm
    finite = table[np.isfinite(table)]
    low, high = min(0.0, float(finite.min(initial=0.0))), float(finite.max(initial=0.0))
    return mpl.colormaps[_SHADES], Normalize(low, high if high > low else low + 1.0)


def _outline(axes: Axes, name: str, chosen: Bool[np.ndarray, "layer head"], colour: str, side: float) -> Patch:
    """Outline heads, and give what a legend says of it."""
    # White beside the line, so that it is seen on the dark end of the palette too.
    halo = [patheffects.withStroke(linewidth=3.0, foreground="white")]
    for layer, head in zip(*np.nonzero(chosen), strict=True):
        corner = (float(head) - side / 2, float(layer) - side / 2)
        axes.add_patch(
            Rectangle(corner, side, side, fill=False, edgecolor=colour, linewidth=1.4, path_effects=halo, zorder=3)
        )
    count = int(chosen.sum())
    return Patch(facecolor="none", edgecolor=colour, linewidth=1.4, label=f"{name}: {count} head{'s' * (count != 1)}")
