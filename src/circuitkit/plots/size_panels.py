"""Accuracy against size in several panels, one line for each of some kinds of question."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Literal

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from circuitkit.plots.figures import NewFigure
from circuitkit.plots.threshold import size_axis
from circuitkit.statistics import wilson

_STYLES: tuple[Literal["-", "--", ":", "-."], ...] = ("-", "--", ":", "-.")
_ABREAST = 3


def size_panels(
    frame: pd.DataFrame, *, panel: str, line: str, line_names: Sequence[str] | None = None, title: str, y_name: str
) -> Axes:
    """Draw the share of correct answers against parameters, and give the first panel's axes; `.figure` has them all.

    `frame` has a row a model and kind of question: `family`, `parameters`, `correct`, `total`, and two columns, of
    which `panel` tells panels apart and `line`, in their order, the colours of lines; families differ in their dashes.
    `line_names` names the lines. Bars are 95 % Wilson intervals.

    Raises:
        ValueError: there are more families than dashes can tell apart (four).

    >>> table = pd.DataFrame({"family": "x", "parameters": [1e6, 4e6] * 2, "rule": "r", "hops": [1, 1, 2, 2],
    ...                       "correct": [5, 9, 1, 6], "total": 10})
    >>> size_panels(table, panel="rule", line="hops", title="", y_name="accuracy, %").get_title()
    'r'
    """
    families = sorted(set(frame["family"]))
    if len(families) > len(_STYLES):
        raise ValueError(f"{len(families)} families in one picture; give {len(_STYLES)} at the most")
    names = list(dict.fromkeys(frame[panel]))
    values = sorted(set(frame[line]))
    colours = dict(zip(values, mpl.colormaps["viridis"](np.linspace(0, 0.85, max(2, len(values)))), strict=False))
    rows, across = ceil(len(names) / _ABREAST), min(_ABREAST, len(names))
    figure = NewFigure(3.5 * across + 0.6, 2.9 * rows + 0.9)
    every: list[Axes] = figure.subplots(rows, across, squeeze=False).ravel().tolist()
    for axes in every[len(names) :]:
        axes.remove()
    for place, (axes, name) in enumerate(zip(every, names, strict=False)):
        for (value, family), part in frame[frame[panel] == name].groupby([line, "family"]):
            _line(axes, part.sort_values("parameters"), colours[value], _STYLES[families.index(family)])
        axes.set_title(str(name), fontsize=10)
        size_axis(axes)
        axes.set(ylim=(-3, 103), ylabel=y_name if place % across == 0 else "")
        if place + across < len(names):
            axes.set_xlabel("")
    notes = [
        Line2D([], [], color=colours[value], label=name)
        for value, name in zip(values, line_names or [f"{line} {value}" for value in values], strict=True)
    ]
    if len(families) > 1:
        notes += [
            Line2D([], [], color="0.3", linestyle=style, label=family)
            for family, style in zip(families, _STYLES, strict=False)
        ]
    figure.legend(handles=notes, loc="outside lower center", ncols=min(8, len(notes)), frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=11)
    return every[0]


def _line(axes: Axes, part: pd.DataFrame, colour: object, style: str) -> None:
    counts = zip(part["correct"], part["total"], strict=True)
    ends = np.array([wilson(int(hits), int(total)) for hits, total in counts])
    sizes = part["parameters"].to_numpy(dtype=np.float64)
    share = 100 * (part["correct"] / part["total"]).to_numpy(dtype=np.float64)
    axes.plot(sizes, share, style, marker="o", markersize=3.5, linewidth=1.3, color=colour)
    axes.vlines(sizes, 100 * ends[:, 0], 100 * ends[:, 1], color=[colour], linewidth=0.8)
