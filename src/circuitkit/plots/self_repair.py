"""Total against direct effects: which heads' loss the later ones make good."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from circuitkit.plots.figures import SEQUENTIAL, explain, new_axes
from circuitkit.plots.study import title_of, unit_of

if TYPE_CHECKING:
    from circuitkit.ablation.self_repair import Effects

_NAMED, _WEAK = 8, 0.02
"""At most how many heads are named, and the share of the strongest head's effect under which none is."""


def total_and_direct(effects: Effects, *, axes: Axes | None = None) -> Axes:
    """Draw each head's total effect against its direct one, the strongest named and those that survive ringed.

    On the diagonal nothing reacts to the ablation; under it later components make good what is lost; above it they
    lose more, since they read the head.

    >>> model = ck.load("deductor-5k")
    >>> both = ck.ablation.effects(model, ["Every wumpus is a dumpus."], progress=False)
    >>> total_and_direct(both).get_xlabel().startswith("direct effect")
    True
    """
    frame = effects.frame
    alone = axes is None
    axes = axes or new_axes(6.6, 6.4)
    direct, total = frame["direct"].to_numpy(), frame["total"].to_numpy()
    reach = [float(min(direct.min(), total.min(), 0.0)), float(max(direct.max(), total.max(), 0.0))]
    (diagonal,) = axes.plot(reach, reach, "--", color="0.5", linewidth=1, label="nothing reacts: total = direct")
    for line in (axes.axhline, axes.axvline):
        line(0.0, color="0.85", linewidth=0.8, zorder=0)
    spots = axes.scatter(direct, total, c=frame["layer"], cmap=SEQUENTIAL, s=36, edgecolors="0.3", linewidths=0.5)
    layers = sorted(set(frame["layer"]))
    axes.figure.colorbar(spots, ax=axes, label="layer", pad=0.02, ticks=layers[:: -(-len(layers) // 12)])
    notes = [diagonal]
    if "statistics" not in effects.total.frame.attrs:
        sure = (frame["total_significant"] | frame["direct_significant"]).to_numpy(dtype=bool)
        label = "total or direct effect survives correction" + ("" if sure.any() else " (no head's does)")
        rings = axes.plot(direct[sure], total[sure], "o", markersize=11, mfc="none", mec="black", label=label)
        notes += rings
    _name(axes, [f"{row.layer}.{row.head}" for row in frame.itertuples()], direct, total, reach[1] - reach[0])
    title = title_of(effects.total).replace(", total effect", ", total and direct effect")
    axes.set_title(title, fontsize=10)
    unit = unit_of(effects.total, "effect")
    axes.set(xlabel=f"direct effect: {unit}", ylabel=f"total effect: {unit}")
    axes.margins(0.08)
    axes.spines[["top", "right"]].set_visible(False)
    explain(axes, notes, alone=alone)
    return axes


def _name(
    axes: Axes,
    names: Sequence[str],
    direct: Float[np.ndarray, " head"],
    total: Float[np.ndarray, " head"],
    width: float,
) -> None:
    """Write the strongest heads' names beside them, where they would not be written over another's."""
    strength = np.maximum(np.abs(direct), np.abs(total))
    written: list[int] = []
    for i in np.argsort(-strength, kind="stable")[:_NAMED].tolist():
        apart = all(
            abs(total[i] - total[j]) > 0.03 * width or abs(direct[i] - direct[j]) > 0.1 * width for j in written
        )
        if strength[i] > _WEAK * strength.max() and apart:
            axes.annotate(names[i], (direct[i], total[i]), xytext=(7, 5), textcoords="offset points", fontsize=8)
            written.append(i)
