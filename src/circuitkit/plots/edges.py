"""The map of attention's edges: from which tokens or spans to which, and what each edge carries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from torch import Tensor

from circuitkit.plots.figures import colours, explain, label_entries, new_axes, shown
from circuitkit.plots.painting import absent, checked_labels, checked_marks, dots, frames, paint, write_values
from circuitkit.statistics.cells import as_array

NO_EDGE = "no such edge: the key comes after the query"
_WRITTEN = 12
"""Up to how many entries a side has room for its numbers."""


def edge_map(
    values: Float[Tensor | np.ndarray, "query key"],
    *,
    queries: Sequence[str],
    keys: Sequence[str],
    title: str,
    unit: str,
    significant: Bool[Tensor | np.ndarray, "query key"] | None = None,
    centre: float | None = 0.0,
    axes: Axes | None = None,
) -> Axes:
    """Draw what edges of attention carry: queries downwards, keys to the right, as attention patterns are drawn.

    Edges that survive correction are framed; between up to a dozen spans each side the values are written in, and maps
    of more have dots. NaN, an edge that cannot be, is grey and hatched. Colours diverge about `centre`, or are
    sequential where it is None. Raises ValueError where shapes and labels disagree.

    >>> spans = ["rule", "question"]
    >>> edge_map(np.eye(2), queries=spans, keys=spans, title="Cut", unit="logits").get_ylabel()
    'query: attention from'
    """
    table = as_array(values)
    if table.ndim != 2:
        raise ValueError(f"an edge map needs values [query, key]; got shape {table.shape}")
    n_queries, n_keys = table.shape
    rows, columns = checked_labels(queries, n_queries, "query"), checked_labels(keys, n_keys, "key")
    survives = checked_marks(significant, table)
    written = max(n_queries, n_keys) <= _WRITTEN
    alone = axes is None
    axes = axes or new_axes(*_size(rows, columns, written))
    image = paint(axes, table, *colours(table, centre), downwards=True, square=written)
    axes.figure.colorbar(image, ax=axes, label=unit, pad=0.02)
    label_entries(axes.yaxis, rows)
    label_entries(axes.xaxis, columns, rotated=max(map(len, columns), default=0) > (4 if written else 2))
    axes.set_title(title, fontsize=10)
    axes.set(xlabel="key: attention to", ylabel="query: attention from")
    notes = [] if survives is None else [frames(axes, survives) if written else dots(axes, survives, size=4)]
    if written:
        write_values(axes, image, table, np.zeros_like(table, dtype=bool) if survives is None else survives)
    if np.isnan(table).any():
        notes.append(absent(NO_EDGE))
    if notes:
        explain(axes, notes, alone=alone)
    return axes


def _size(rows: Sequence[str], columns: Sequence[str], written: bool) -> tuple[float, float]:
    """Inches: a cell's side times their number, and room for labels, title, colour bar and legend."""
    side = max(0.58, 3.4 / max(len(rows), len(columns))) if written else 0.22
    row_text, column_text = (0.075 * max((len(shown(text)) for text in names), default=0) for names in (rows, columns))
    return (
        min(18.0, max(5.2, side * len(columns) + row_text + 1.8)),
        min(16.0, max(2.2, side * len(rows)) + column_text + 1.7),
    )
