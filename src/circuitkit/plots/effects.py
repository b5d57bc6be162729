"""Bars of effects with their intervals, each beside its matched random control."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from numpy.typing import NDArray
from torch import Tensor

from circuitkit.plots.figures import explain, label_entries, new_axes
from circuitkit.statistics.cells import as_array

_EFFECT, _CONTROL = "#b35806", "#998ec3"

Ends = tuple[Float[Tensor | np.ndarray, " bar"], Float[Tensor | np.ndarray, " bar"]]


def bars(
    effects: Float[Tensor | np.ndarray, " bar"],
    *,
    labels: Sequence[str],
    title: str,
    unit: str,
    name: str = "",
    interval: Ends | None = None,
    controls: Float[Tensor | np.ndarray, " bar"] | None = None,
    control_interval: Ends | None = None,
    interval_name: str = "line: 95% interval",
    control_name: str = "the middle 95% of them",
    effect_name: str = "effect",
    axes: Axes | None = None,
) -> Axes:
    """Draw effects as bars with their intervals and, where given, random controls beside them.

    `name` says what a bar is, `unit` what its height is, `effect_name` what the legend calls it, `interval` the low
    and high ends, `interval_name` and `control_name` what the lines on the bars show. A bar that is NaN is left out.
    Raises ValueError where lengths disagree.

    >>> bars(np.array([1.0, 0.2]), labels=["3.1", "3.2"], title="Drop", unit="logits").get_ylabel()
    'logits'
    """
    heights = as_array(effects)
    if heights.shape != (len(labels),):
        raise ValueError(f"effects of shape {heights.shape} for {len(labels)} labels")
    alone = axes is None
    breadth = min(16.0, max(5.2, 1.8 + 0.42 * len(labels)))
    axes = axes or new_axes(breadth, 4.0)
    width = 0.8 if controls is None else 0.4
    places = np.arange(len(labels), dtype=np.float64) - (0.8 - width) / 2
    drawn = [_draw(axes, places, heights, interval, width, _EFFECT)]
    drawn[0].set_label(effect_name if interval is None else f"{effect_name} ({interval_name})")
    if controls is not None:
        drawn.append(_draw(axes, places + width, as_array(controls), control_interval, width, _CONTROL))
        spread = "" if control_interval is None else f" (line: {control_name})"
        drawn[1].set_label(f"random heads, matched in layer and number{spread}")
    axes.axhline(0.0, color="0.3", linewidth=0.8)
    axes.margins(x=0.02)
    room = (breadth - 1.4) / max(1, len(labels)) if alone else 0.4
    label_entries(axes.xaxis, labels, rotated=0.085 * max(map(len, labels), default=0) > room)
    axes.set_title(title, fontsize=10)
    axes.set(ylabel=unit, xlabel=name)
    axes.spines[["top", "right"]].set_visible(False)
    if len(drawn) > 1 or interval is not None:
        explain(axes, drawn, alone=alone)
    return axes


def _draw(
    axes: Axes,
    places: NDArray[np.float64],
    heights: NDArray[np.float64],
    interval: Ends | None,
    width: float,
    colour: str,
) -> BarContainer:
    if heights.shape != places.shape:
        raise ValueError(f"{heights.shape} heights for {places.shape} bars")
    drawn = axes.bar(places, heights, width, color=colour)
    if interval is None:
        return drawn
    low, high = (as_array(end) for end in interval)
    if low.shape != heights.shape or high.shape != heights.shape:
        raise ValueError(f"interval ends of shapes {low.shape} and {high.shape} for {len(heights)} bars")
    # Lines from end to end, since a skewed interval need not hold the bar's own height.
    axes.vlines(places, low, high, color="black", linewidth=1.2)
    return drawn
