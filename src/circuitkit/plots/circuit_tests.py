"""What a circuit loses by each of its parts, and whether it loses what the whole model loses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes

from circuitkit.plots.effects import bars
from circuitkit.plots.figures import explain, new_axes

if TYPE_CHECKING:
    from circuitkit.circuits.evaluating.complete import Completeness
    from circuitkit.circuits.evaluating.minimal import Minimality

_RANDOM, _GREEDY, _NOTHING = "#998ec3", "#b35806", "black"
_LOOKS = {
    "nothing": ("D", _NOTHING, "nothing taken out"),
    "random": ("o", _RANDOM, "random sets of the circuit's nodes"),
    "greedy": ("^", _GREEDY, "sets grown to drive them apart"),
}


def minimality_bars(minimality: Minimality, *, most: int = 40, axes: Axes | None = None) -> Axes:
    """Draw what a circuit loses by each part, the largest first, with intervals and the reach of random parts.

    >>> model = ck.load("deductor-5k")
    >>> pairs = ck.tasks.deductions.pairs(model.tokenizer, n=3)
    >>> graph = ck.circuits.attribute(model, pairs, method="eap", progress=False).top(3)
    >>> found = ck.circuits.minimality(model, graph, pairs, random=4, progress=False)
    >>> minimality_bars(found).get_title().splitlines()[0]
    'What the circuit loses by each of its edges'
    """
    rows = minimality.frame.head(most)
    ends = ["node"] if minimality.of == "nodes" else ["source", "destination"]
    unit = f" [{minimality.unit}]" if minimality.unit else ""
    shown = f"the {len(rows)} largest of {len(minimality.parts)}" if len(rows) < len(minimality.parts) else "all"
    known = bool(rows["low"].notna().all())
    drawn = bars(
        rows["contribution"].to_numpy(dtype=np.float64),
        labels=["→".join(row) for row in rows[ends].itertuples(index=False)],
        title=f"What the circuit loses by each of its {minimality.of}\n{shown}; {_told(minimality)}",
        unit=f"{minimality.metric.replace('_', ' ')},\ncircuit − without{unit}",
        name=f"{minimality.of[:-1]} taken out",
        interval=(rows["low"].to_numpy(dtype=np.float64), rows["high"].to_numpy(dtype=np.float64)) if known else None,
        effect_name="loss",
        axes=axes,
    )
    for text in drawn.get_xticklabels():
        text.set_fontsize(7)
    if len(minimality.random):
        reach = float(rows["random_high"].iloc[0])
        drawn.axhspan(-reach, reach, color=_RANDOM, alpha=0.35, linewidth=0, zorder=0)
        drawn.set_xlabel(f"{drawn.get_xlabel()} (band: 95% of {len(minimality.random)} random {minimality.of})")
    return drawn


def _told(minimality: Minimality) -> str:
    if len(minimality.random) < minimality.fewest:
        return "too few random ones were run to tell more"
    surely = len(minimality.parts) - len(minimality.unneeded)
    return f"{surely} of {len(minimality.parts)} surely do more than {100 * minimality.beyond:.0f}% of random ones"


def completeness_scatter(completeness: Completeness, *, axes: Axes | None = None) -> Axes:
    """Draw the circuit's metric against the whole model's where both are without the same nodes; equal on the line.

    Source: Wang et al. 2022, arXiv 2211.00593, figure 6.

    >>> model = ck.load("deductor-5k")
    >>> pairs = ck.tasks.deductions.pairs(model.tokenizer, n=3)
    >>> graph = ck.circuits.attribute(model, pairs, method="eap", progress=False)
    >>> found = ck.circuits.completeness(model, graph, pairs, sets=2, greedy=1, progress=False)
    >>> completeness_scatter(found).get_title().splitlines()[0]
    'Circuit and whole model without the same nodes'
    """
    alone = axes is None
    axes = axes or new_axes(5.6, 5.6)
    rows = completeness.frame
    unit = f" [{completeness.unit}]" if completeness.unit else ""
    values = rows[["model", "circuit"]].to_numpy(dtype=np.float64)
    ends = [float(values.min()), float(values.max())]
    (line,) = axes.plot(ends, ends, "-", color="0.3", linewidth=0.8, label="circuit as the whole model")
    notes = [line]
    for how, (mark, colour, name) in _LOOKS.items():
        part = rows[rows["how"] == how]
        if len(part):
            (points,) = axes.plot(part["model"], part["circuit"], mark, color=colour, label=name)
            notes.append(points)
    _, worst = completeness.worst
    axes.set_title(
        f"Circuit and whole model without the same nodes\nat most {worst:.3g} {completeness.unit} apart",
        fontsize=10,
    )
    metric = completeness.metric.replace("_", " ")
    axes.set(xlabel=f"{metric} of the whole model{unit}", ylabel=f"{metric} of the circuit{unit}")
    axes.spines[["top", "right"]].set_visible(False)
    explain(axes, notes, alone=alone)
    return axes
