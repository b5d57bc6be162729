"""What lm-eval found over several seeds: means with their standard errors, and the shares that failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.container import Container

from circuitkit.plots.figures import explain, new_axes

if TYPE_CHECKING:
    from circuitkit.interop.lm_eval import HarnessEvaluation

_RIGHT, _UNEXTRACTED, _TRUNCATED = "#b35806", "#542788", "#998ec3"


def harness_means(found: HarnessEvaluation, axes: Axes | None = None) -> Axes:
    """Draw each task's metrics, by each of its filters: the mean over seeds, its standard error, and what failed.

    Args:
        found: what `circuitkit.interop.lm_eval.evaluate` gave.
        axes: where to draw; a figure of its own if None.

    >>> from circuitkit.interop.lm_eval.outcome import HarnessEvaluation, HarnessRun
    >>> sample = {"doc": 0, "filter": "none", "exact_match": 1, "truncated": False, "unextracted": False}
    >>> run = HarnessRun("aime24", 0, "", {"exact_match": True}, [sample], 0.1)
    >>> harness_means(HarnessEvaluation("m", (run,))).get_ylabel()
    'share of responses (%)'
    """
    table = found.table
    alone = axes is None
    axes = axes or new_axes(min(16.0, max(5.0, 2.4 + 1.5 * len(table))), 4.6)
    places = np.arange(len(table))
    means, errors = 100 * table["mean"], 100 * table["standard_error"]
    drawn: list[Artist | Container] = [
        axes.errorbar(places, means, errors, fmt="o", color=_RIGHT, capsize=3, label="mean ± standard error"),
        *axes.plot(places, 100 * table["unextracted"], "x", color=_UNEXTRACTED, label="no answer extracted"),
        *axes.plot(places, 100 * table["truncated"], "s", color=_TRUNCATED, fillstyle="none", label="truncated"),
    ]
    rows = table[["task", "filter", "metric"]].itertuples(index=False)
    # A line a name, since lm-eval's are long.
    axes.set_xticks(places, ["\n".join(part for part in row if part != "none") for row in rows], fontsize=8)
    seeds = ", ".join(str(n) for n in sorted(table["seeds"].unique()))
    axes.set_title(f"lm-evaluation-harness, {found.model}: {seeds} seeds", fontsize=10)
    axes.set(xlabel="task, filter and metric", ylabel="share of responses (%)", ylim=(-4, 104))
    axes.margins(x=0.1)
    axes.spines[["top", "right"]].set_visible(False)
    explain(axes, drawn, alone=alone)
    return axes
