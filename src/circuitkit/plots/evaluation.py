"""What an evaluation found: accuracy with its interval, and what failed, for each group of items."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from circuitkit.plots.figures import explain, label_entries, new_axes

if TYPE_CHECKING:
    from circuitkit.evaluation import Evaluation

_RIGHT, _UNPARSEABLE, _TRUNCATED = "#b35806", "#542788", "#998ec3"


def accuracies(evaluation: Evaluation, *groups: str, axes: Axes | None = None) -> Axes:
    """Draw an evaluation's accuracy with its intervals, and the shares unparseable and truncated, by group of items.

    Args:
        evaluation: what was found.
        groups: what items are told apart by; all that they have if none is named.
        axes: where to draw; a figure of its own if None.

    Raises:
        EvaluationError: the items have no such group.

    >>> from circuitkit.tasks import prontoqa
    >>> task = prontoqa.task("implication_elimination", shots=0, n=2)
    >>> accuracies(ck.evaluate(ck.load("deductor-5k"), task, progress=False)).get_ylabel()
    'share of responses (%)'
    """
    named = groups or evaluation.groups
    table = evaluation.by(*named)
    labels = [" ".join(str(value) for value in row) for row in table[list(named)].to_numpy()] if named else ["all"]
    alone = axes is None
    axes = axes or new_axes(min(16.0, max(5.0, 2.4 + 0.45 * len(table))), 4.2)
    places = np.arange(len(table))
    drawn = [
        axes.vlines(places, 100 * table["low"], 100 * table["high"], color=_RIGHT, linewidth=1.6, label="95% interval"),
        *axes.plot(places, 100 * table["accuracy"], "o", color=_RIGHT, label="right", zorder=3),
        *axes.plot(places, 100 * table["unparseable"], "x", color=_UNPARSEABLE, label="unparseable"),
        *axes.plot(places, 100 * table["truncated"], "s", color=_TRUNCATED, fillstyle="none", label="truncated"),
    ]
    if evaluation.chance is not None:
        chance = 100 * evaluation.chance
        drawn.append(axes.axhline(chance, color="0.4", linestyle=":", label=f"chance ({chance:.0f}%)"))
    label_entries(axes.xaxis, labels, rotated=max(map(len, labels)) > 8)
    axes.set_title(_title(evaluation), fontsize=10)
    axes.set(xlabel=", ".join(named) or "items", ylabel="share of responses (%)", ylim=(-4, 104))
    axes.margins(x=0.06)
    axes.spines[["top", "right"]].set_visible(False)
    explain(axes, drawn, alone=alone)
    return axes


def _title(evaluation: Evaluation) -> str:
    asked = f"{evaluation.shots} exemplars" if evaluation.shots != 1 else "1 exemplar"
    found: pd.DataFrame = evaluation.frame
    return f"{evaluation.task}, {evaluation.model}: {asked}, {evaluation.decoding} decoding, n = {len(found)}"
