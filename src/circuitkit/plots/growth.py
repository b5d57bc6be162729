"""The curve of a grown set of heads: what its ablation costs, head by head, beside random sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from circuitkit.plots.figures import explain, label_entries, new_axes
from circuitkit.plots.study import title_of, unit_of

if TYPE_CHECKING:
    from circuitkit.ablation.growth import Growth

_GROWN, _RANDOM = "#b35806", "#998ec3"


def growth_curve(growth: Growth, *, axes: Axes | None = None) -> Axes:
    """Draw a grown set's joint effect against its size, with its intervals, over the band of its random controls.

    An open mark on the controls' line says that, at that size, they may hold heads of the grown set, since its layers
    have too few others; where no other set matches it there is no mark.

    >>> growth = ck.ablation.grow(ck.load("deductor-5k"), ["Every wumpus is a dumpus."], 2, progress=False)
    >>> growth_curve(growth).get_xlabel()
    'heads ablated together, each added to those before (+layer.head)'
    """
    frame, result = growth.frame, growth.result
    alone = axes is None
    axes = axes or new_axes(min(16.0, max(6.0, 2.2 + 0.5 * len(frame))), 4.4)
    places = np.arange(len(frame), dtype=np.float64)
    effects = frame["effect"].to_numpy()
    label = "grown set"
    if bool(frame["low"].notna().all()):
        axes.vlines(places, frame["low"], frame["high"], color=_GROWN, linewidth=1.6)
        label = "grown set (line: 95% interval)"
    (grown,) = axes.plot(places, effects, "o-", color=_GROWN, label=label, zorder=3)
    controls = frame[["control_mean", "control_low", "control_high"]].to_numpy(dtype=np.float64)
    drawn = [grown, *_band(axes, places, controls, frame["control_disjoint"].to_numpy(dtype=bool))]
    axes.axhline(0.0, color="0.3", linewidth=0.8)
    axes.margins(x=0.04)
    label_entries(axes.xaxis, result.labels["size"], rotated=len(frame) > 12)
    axes.set_title(title_of(result), fontsize=10)
    axes.set(
        xlabel="heads ablated together, each added to those before (+layer.head)", ylabel=unit_of(result, "effect")
    )
    axes.spines[["top", "right"]].set_visible(False)
    explain(axes, drawn, alone=alone)
    return axes


def _band(
    axes: Axes,
    places: Float[np.ndarray, " size"],
    controls: Float[np.ndarray, "size 3"],
    disjoint: Bool[np.ndarray, " size"],
) -> list[Artist]:
    """The random sets' mean, low and high at each size, and what a legend says of them."""
    there = np.isfinite(controls[:, 0])
    if not there.any():
        return []
    mean, low, high = controls.T
    name = "random sets matched in layer and number"
    band = axes.fill_between(places, low, high, color=_RANDOM, alpha=0.35, linewidth=0, label=f"{name}: middle 95%")
    beside = np.concatenate([[False], there, [False]])
    # A band has no width at a size between two that have no controls.
    alone = there & ~beside[:-2] & ~beside[2:]
    axes.vlines(places[alone], low[alone], high[alone], color=_RANDOM, linewidth=4, alpha=0.5)
    (line,) = axes.plot(places, mean, "-", color=_RANDOM, label=f"{name}: mean")
    axes.plot(places[there & disjoint], mean[there & disjoint], "s", color=_RANDOM)
    shared = there & ~disjoint
    if not shared.any():
        return [line, band]
    (open_marks,) = axes.plot(
        places[shared],
        mean[shared],
        "s",
        color=_RANDOM,
        markerfacecolor="white",
        label="random sets that may hold heads of the grown one",
    )
    return [line, band, open_marks]
