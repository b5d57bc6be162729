"""Tokens as running text, each on the colour of its value."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from torch import Tensor

from circuitkit.plots.figures import MISSING, colours, new_axes, readable_on, shown
from circuitkit.statistics.cells import as_array

_CHARACTERS, _WIDTH = 84, 9.0


def tokens(
    texts: Sequence[str],
    values: Float[Tensor | np.ndarray, " token"],
    *,
    title: str,
    unit: str,
    centre: float | None = 0.0,
    axes: Axes | None = None,
) -> Axes:
    """Write tokens as wrapped text, each on the colour of its value.

    Colours diverge about `centre`, or are sequential where it is None; a NaN is grey. Raises ValueError
    where there is not one value per token.

    >>> tokens(["Alex", " is"], np.array([0.5, -0.1]), title="Effect by token", unit="logits").get_title()
    'Effect by token'
    """
    table = as_array(values)
    if table.shape != (len(texts),) or not texts:
        raise ValueError(f"values of shape {table.shape} for {len(texts)} tokens; give one per token")
    places = _wrapped([shown(text) for text in texts])
    n_lines = places[-1][0] + 1
    axes = axes or new_axes(_WIDTH, 1.1 + 0.3 * n_lines)
    colour_map, norm = colours(table, centre)
    for (line, start, text), value in zip(places, table, strict=True):
        colour = to_rgb(MISSING) if np.isnan(value) else colour_map(norm(value))[:3]
        axes.add_patch(_box(start, line, len(text), colour))
        axes.text(
            start + len(text) / 2 + 0.35,
            line,
            text,
            family="monospace",
            fontsize=8.5,
            ha="center",
            va="center",
            color=readable_on(colour),
            parse_math=False,
        )
    axes.set(title=title, xlim=(0, _CHARACTERS), ylim=(n_lines - 0.5, -0.5), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.figure.colorbar(ScalarMappable(norm, colour_map), ax=axes, label=unit, fraction=0.05, pad=0.01)
    return axes


def _box(start: float, line: int, length: int, colour: Sequence[float]) -> Rectangle:
    return Rectangle((start, line - 0.42), length + 0.7, 0.84, facecolor=tuple(colour), edgecolor="none")


def _wrapped(texts: Sequence[str]) -> list[tuple[int, float, str]]:
    """Each token's line, its start in characters, and its text."""
    line, start, places = 0, 0.0, []
    for text in texts:
        if start and start + len(text) + 0.7 > _CHARACTERS:
            line, start = line + 1, 0.0
        places.append((line, start, text))
        start += len(text) + 0.7
    return places
