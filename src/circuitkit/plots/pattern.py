"""Attention patterns, with tokens on both axes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from torch import Tensor

from circuitkit.plots.figures import SEQUENTIAL, label_entries, new_axes
from circuitkit.statistics.cells import as_array


def attention_pattern(
    pattern: Float[Tensor | np.ndarray, "query key"],
    tokens: Sequence[str],
    *,
    title: str,
    axes: Axes | None = None,
) -> Axes:
    """Draw one head's attention: queries downwards, keys to the right, weights from 0 to 1.

    `tokens` are the keys; where there are fewer queries (while decoding), those are the last tokens. Raises
    ValueError where shapes disagree.

    >>> attention_pattern(np.eye(2), ["a", "b"], title="Layer 0, head 1").get_xlabel()
    'key'
    """
    weights = as_array(pattern)
    if weights.ndim != 2 or weights.shape[1] != len(tokens) or weights.shape[0] > len(tokens):
        raise ValueError(f"a pattern [query, key] of shape {weights.shape} does not fit {len(tokens)} tokens")
    n_queries, n_keys = weights.shape
    side = min(14.0, max(3.0, 0.22 * n_keys))
    axes = axes or new_axes(side + 2.4, min(14.0, max(2.0, 0.22 * n_queries)) + 1.6)
    image = axes.imshow(weights, cmap=SEQUENTIAL, vmin=0.0, vmax=1.0, aspect="auto")
    axes.figure.colorbar(image, ax=axes, label="attention weight", pad=0.02)
    label_entries(axes.xaxis, tokens, rotated=True)
    label_entries(axes.yaxis, tokens[len(tokens) - n_queries :])
    axes.set(title=title, xlabel="key", ylabel="query")
    return axes
