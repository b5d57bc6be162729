"""Shares of response levels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.container import Container

from circuitkit.plots.figures import explain, label_entries, new_axes

if TYPE_CHECKING:
    from circuitkit.sfn.response_levels.outcome import Levels

_COLOURS = {"I": "#4d4d4d", "II": "#998ec3", "III": "#fdb863", "IV": "#b35806"}
"""Told apart under every common colour blindness, and by their lightness."""
_MEANINGS = {"I": "nonsense", "II": "off the task", "III": "on the task, not right", "IV": "right"}


def level_shares(found: Levels, *groups: str, axes: Axes | None = None) -> Axes:
    """Draw the share of each level as a stack, with its 95 % interval, by group of items.

    Args:
        found: the levels.
        groups: what items are told apart by; all that they have if none is named.
        axes: where to draw; a figure of its own if None.

    Raises:
        LevelError: the items have no such group.

    >>> pairs = [("Q: Rex is shy.\\nA:", " Rex is shy."), ("Q: Fae is loud.\\nA:", " Fae is loud.")]
    >>> level_shares(ck.sfn.levels(pairs, ck.load("deductor-130k"), progress=False)).get_ylabel()
    'share of responses (%)'
    """
    named = groups or found.groups
    table = found.by(*named)
    alone = axes is None
    each = table[table["level"] == "I"]
    labels = [" ".join(str(value) for value in row) for row in each[list(named)].to_numpy()] if named else ["all"]
    axes = axes or new_axes(min(16.0, max(5.0, 2.4 + 0.5 * len(each))), 4.2)
    places = np.arange(len(each))
    below = np.zeros(len(each))
    drawn: list[Artist | Container] = []
    for level, colour in _COLOURS.items():
        part = table[table["level"] == level]
        shares = 100 * part["share"].to_numpy(dtype=float)
        drawn.append(axes.bar(places, shares, 0.7, bottom=below, color=colour, label=f"{level}: {_MEANINGS[level]}"))
        below = below + shares
    right = table[table["level"] == "IV"]
    # The share of IV stands on top of the stack: its interval is drawn from there.
    low, high = 100 - 100 * right["high"], 100 - 100 * right["low"]
    drawn.append(axes.vlines(places, low, high, color="black", linewidth=1.6, label="95% interval of IV"))
    label_entries(axes.xaxis, labels, rotated=max(map(len, labels)) > 8)
    axes.set_title(f"Response levels, {found.model or 'responses'}: n = {len(found.graded)}", fontsize=10)
    axes.set(xlabel=", ".join(named) or "items", ylabel="share of responses (%)", ylim=(0, 104))
    axes.spines[["top", "right"]].set_visible(False)
    explain(axes, drawn, alone=alone)
    return axes
