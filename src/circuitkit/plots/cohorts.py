"""Heads over a training: stacked cohorts, how often each is active, and how long they stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from circuitkit.plots.figures import explain, label_entries, new_axes
from circuitkit.plots.painting import absent

if TYPE_CHECKING:
    from circuitkit.circuits.comparing.cohorts_of_heads import Cohorts

_BASE, _NEW = "#d55e00", "#0072b2"
"""Okabe and Ito's vermilion and blue, told apart under every common colour blindness, and by their darkness in grey."""
_MISSING = "0.88"
_MOST_NAMED = 12


def head_cohorts(found: Cohorts, *, axes: Axes | None = None) -> Axes:
    """Draw how many heads of each cohort are active at each checkpoint, stacked, over the base's retained ones.

    Blue are heads that were not active in the base, the darker the earlier they emerged; the dashed orange line counts
    the base's heads that are active still.

    >>> masks = torch.tensor([[[True, False]], [[True, True]]])
    >>> found = ck.circuits.Cohorts((1, 2), masks, masks[0], torch.ones(1, 2, dtype=torch.bool))
    >>> head_cohorts(found).get_ylabel()
    'active heads'
    """
    counts = found.counts
    alone = axes is None
    axes = axes or new_axes(min(14.0, max(6.0, 2.6 + 0.5 * len(found.steps))), 4.6)
    places = np.arange(len(found.steps), dtype=np.float64)
    below = np.zeros(len(places))
    there = [step for step in found.steps if counts[step].any()]
    shades = mpl.colormaps["Blues_r"](np.linspace(0.05, 0.72, max(1, len(there))))
    notes: list[Patch | Line2D] = []
    for step, shade in zip(there, shades, strict=False):
        heights = counts[step].to_numpy(dtype=np.float64)
        axes.bar(places, heights, 0.82, bottom=below, color=shade, edgecolor="white", linewidth=0.4)
        below += heights
        notes.append(Patch(color=to_hex(shade), label=f"first active at {found.unit} {step:,}"))
    if len(notes) > _MOST_NAMED:
        left_out = len(notes) - _MOST_NAMED
        notes = [*notes[:6], Patch(color="none", label=f"… {left_out} cohorts more …"), *notes[-6:]]
    (line,) = axes.plot(places, counts["retained"], "s--", color=_BASE, markersize=4, label="heads of the base")
    axes.axhline(int(found.base.sum()), color=_BASE, linewidth=0.8, linestyle=":")
    base = Line2D([], [], color=_BASE, linestyle=":", label=f"the base's {int(found.base.sum())} heads")
    label_entries(axes.xaxis, [f"{step:,}" for step in found.steps], rotated=len(found.steps) > 10)
    axes.set(xlabel=f"checkpoint ({found.unit})", ylabel="active heads")
    axes.set_title("Heads of the circuit over training: new ones by cohort, and the base's", fontsize=10)
    axes.set_ylim(0, None)
    axes.spines[["top", "right"]].set_visible(False)
    explain(axes, [line, base, *notes], alone=alone)
    return axes


def activation_map(found: Cohorts, *, axes: Axes | None = None) -> Axes:
    """Draw at what share of checkpoints each head is active, layers upwards: the base's orange, new ones blue.

    Heads that are active at the last checkpoint have a black outline; a base head that is never active again is a small
    orange ring.

    >>> masks = torch.tensor([[[True, False]], [[True, True]]])
    >>> found = ck.circuits.Cohorts((1, 2), masks, masks[0], torch.ones(1, 2, dtype=torch.bool))
    >>> activation_map(found).get_xlabel()
    'head'
    """
    layers, heads = found.base.shape
    alone = axes is None
    axes = axes or new_axes(min(16.0, max(6.4, 3.2 + 0.3 * heads)), min(16.0, max(3.8, 2.1 + 0.3 * layers)))
    frequency = found.frequency.numpy()
    base, end = found.base.numpy(), found.active[-1].numpy()
    ramps = {is_base: _ramp(colour) for is_base, colour in ((True, _BASE), (False, _NEW))}
    picture = np.ones((layers, heads, 4))
    for is_base, ramp in ramps.items():
        chosen = (base == is_base) & ~np.isnan(frequency)
        picture[chosen] = ramp(frequency[chosen])
        bar = axes.figure.colorbar(
            mpl.cm.ScalarMappable(mpl.colors.Normalize(0, 1), ramp), ax=axes, pad=0.02, shrink=0.8
        )
        bar.set_label(f"share of checkpoints active: {'heads of the base' if is_base else 'new heads'}", fontsize=8)
    axes.imshow(picture, origin="lower", interpolation="nearest")
    for layer, head in zip(*np.nonzero(np.isnan(frequency)), strict=True):
        corner = (head - 0.5, layer - 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, facecolor=_MISSING, edgecolor="0.6", hatch="///", linewidth=0))
    for layer, head in zip(*np.nonzero(end), strict=True):
        axes.add_patch(Rectangle((head - 0.45, layer - 0.45), 0.9, 0.9, fill=False, edgecolor="black", linewidth=1.4))
    gone = np.nonzero(base & (frequency == 0))
    axes.plot(gone[1], gone[0], "o", markerfacecolor="none", markeredgecolor=_BASE, markersize=5)
    label_entries(axes.yaxis, [str(layer) for layer in range(layers)])
    label_entries(axes.xaxis, [str(head) for head in range(heads)])
    axes.set(xlabel="head", ylabel="layer")
    axes.set_title(f"Heads active over {len(found.steps)} checkpoints", fontsize=10)
    notes: list[Patch | Line2D] = [
        Patch(facecolor=_BASE, label=f"heads of the base: {int(base.sum())}"),
        Patch(facecolor=_NEW, label=f"new heads: {int((found.first >= 0).sum())}"),
        Patch(facecolor="none", edgecolor="black", label=f"active at the end: {int(end.sum())}"),
    ]
    if len(gone[0]):
        ring = Line2D([], [], marker="o", linestyle="", markerfacecolor="none", color=_BASE)
        ring.set_label(f"the base's, never active again: {len(gone[0])}")
        notes.append(ring)
    if np.isnan(frequency).any():
        notes.append(absent("no such head"))
    explain(axes, notes, alone=alone)
    return axes


def head_survival(found: Cohorts, *, axes: Axes | None = None) -> Axes:
    """Draw what share of heads is active so many checkpoints after each emerged, and of the base's after the base.

    Bands are Wilson's 95 % intervals; dotted lines count heads that have been active ever since (Kaplan-Meier).

    >>> masks = torch.tensor([[[True, False]], [[True, True]]])
    >>> found = ck.circuits.Cohorts((1, 2), masks, masks[0], torch.ones(1, 2, dtype=torch.bool))
    >>> head_survival(found).get_ylabel()
    'active heads (%)'
    """
    table = found.survival
    alone = axes is None
    axes = axes or new_axes(6.4, 4.4)
    notes = []
    for name, colour, mark in (("emergent", _NEW, "o"), ("base", _BASE, "s")):
        rows = table[table["heads"] == name]
        if not len(rows):
            continue
        axes.fill_between(rows["age"], 100 * rows["low"], 100 * rows["high"], color=colour, alpha=0.18, linewidth=0)
        label = f"{'new heads' if name == 'emergent' else 'heads of the base'} ({rows['at_risk'].iloc[0]})"
        (line,) = axes.plot(rows["age"], 100 * rows["active"], f"{mark}-", color=colour, markersize=4, label=label)
        (ever,) = axes.plot(rows["age"], 100 * rows["unbroken"], ":", color=colour, label=f"{label}, without a break")
        notes += [line, ever]
    axes.set(xlabel="checkpoints since it emerged (of the base's: since the base)", ylabel="active heads (%)")
    axes.set_ylim(0, 103)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title("How long heads stay in the circuit", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    if notes:
        explain(axes, notes, alone=alone)
    return axes


def _ramp(colour: str) -> LinearSegmentedColormap:
    """From white at nothing to a colour; what is there at all can be seen."""
    return LinearSegmentedColormap.from_list(colour, ["white", colour])
