"""The strongest edges of an attention pattern, as arcs over a row of tokens."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from torch import Tensor

from circuitkit.plots.figures import SEQUENTIAL, label_entries, new_axes
from circuitkit.statistics.cells import as_array

_MOST_LABELS = 120


def attention_arcs(
    tokens: Sequence[str],
    queries: Int[Tensor | np.ndarray, " edge"],
    keys: Int[Tensor | np.ndarray, " edge"],
    weights: Float[Tensor | np.ndarray, " edge"],
    *,
    title: str,
    axes: Axes | None = None,
) -> Axes:
    """Draw edges as arcs from each query (the right end) to its key, darker and wider the more attention they carry.

    A token's attention to itself is a dot. Raises ValueError where there is not one query, key and weight an edge, or
    an edge ends at no token.

    >>> attention_arcs(["a", "b"], np.array([1]), np.array([0]), np.array([0.5]), title="Edges").get_ylabel()
    'tokens between query and key'
    """
    begins, ends, carried = (as_array(each) for each in (queries, keys, weights))
    if not (begins.shape == ends.shape == carried.shape) or begins.ndim != 1:
        raise ValueError(f"{len(begins)} queries, {len(ends)} keys and {len(carried)} weights: give one each an edge")
    if len(begins) and not 0 <= min(begins.min(), ends.min()) <= max(begins.max(), ends.max()) < len(tokens):
        raise ValueError(f"an edge ends outside the {len(tokens)} tokens")
    axes = axes or new_axes(min(20.0, max(5.0, 0.16 * len(tokens))), 4.6)
    norm = Normalize(0.0, float(carried.max(initial=1e-9)))
    # From the palette's dark end inwards: its lightest yellow cannot be seen on white.
    colour_map = mpl.colormaps[SEQUENTIAL + "_r"]
    height = 1.0
    for at in np.argsort(carried):
        query, key, share = begins[at], ends[at], norm(carried[at])
        colour = colour_map(0.15 + 0.85 * share)
        if query == key:
            axes.plot([query], [0], "o", markersize=2 + 4 * share, color=colour)
            continue
        reach = query - key
        height = max(height, abs(reach))
        # A cubic curve rises to three quarters of its control points.
        points = [(key, 0.0), (key, reach * 4 / 3), (query, reach * 4 / 3), (query, 0.0)]
        arc = Path(points, [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4])
        axes.add_patch(PathPatch(arc, facecolor="none", edgecolor=colour, linewidth=0.5 + 2.5 * share))
    axes.set(title=title, xlabel="token", ylabel="tokens between query and key")
    axes.set(xlim=(-0.8, len(tokens) - 0.2), ylim=(-0.02 * height, 1.06 * height))
    label_entries(axes.xaxis, tokens, rotated=True, most=_MOST_LABELS)
    axes.spines[["top", "right"]].set_visible(False)
    shades = colour_map(np.linspace(0.15, 1.0, 256))
    shown = ScalarMappable(norm, mpl.colors.ListedColormap(shades))
    axes.figure.colorbar(shown, ax=axes, label="attention weight", pad=0.01, fraction=0.04)
    return axes
