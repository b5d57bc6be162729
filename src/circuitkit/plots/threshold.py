"""Accuracy against the number of parameters, with the curves that were fitted and where a threshold may lie."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, NullFormatter

from circuitkit.plots.figures import explain, new_axes

if TYPE_CHECKING:
    from circuitkit.thresholds.finding import Threshold

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999933")
"""Okabe & Ito's palette, its yellow exchanged for olive, which can be seen on white."""
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")
_BAND = "0.9"
_TITLE_WIDTH = 64


def family_looks(families: Sequence[str]) -> dict[str, tuple[str, str]]:
    """A colour and a marker for each family, the same for the same families; no two share both.

    >>> family_looks(["GPT-2", "SmolLM2"])["SmolLM2"]
    ('#d55e00', 's')
    """
    names = sorted(set(families))
    return {
        name: (_COLOURS[i % len(_COLOURS)], _MARKERS[(i + i // len(_COLOURS)) % len(_MARKERS)])
        for i, name in enumerate(names)
    }


def accuracy_against_size(found: Threshold, *, axes: Axes | None = None) -> Axes:
    """Draw each model's accuracy with its interval, the best curves with and without a threshold, and the breakpoint.

    The band is the breakpoint's interval; it is left out where no threshold is found. Filled marks are base models and
    open ones instruct models, where the table has a column `instruct`.

    >>> import pandas as pd
    >>> table = pd.DataFrame({"model": list("abcdef"), "family": "x", "parameters": [1e6 * 2**k for k in range(6)],
    ...                       "correct": [1, 2, 1, 9, 8, 9], "total": 10})
    >>> accuracy_against_size(ck.thresholds.find(table, draws=19, progress=False)).get_xlabel()
    'parameters'
    """
    alone = axes is None
    axes = axes or new_axes(7.4, 5.2)
    notes: list[Line2D | Patch] = []
    if found.verdict in ("threshold", "possible"):
        axes.axvspan(*found.interval, color=_BAND, zorder=0, linewidth=0)
        notes.append(Patch(color=_BAND, label=f"breakpoint, {100 * found.level:.0f} % interval"))
    for row, style, width in ((found.best_smooth, "--", 1.4), (found.best, "-", 1.8)):
        line = found.lines[found.lines["curve"] == row["curve"]]
        (drawn,) = axes.plot(
            line["parameters"],
            100 * line["accuracy"],
            style,
            color="0.35",
            linewidth=width,
            zorder=2,
            label=f"{str(row['curve']).replace('_', ' ')} ({'threshold' if style == '-' else 'no threshold'})",
        )
        notes.append(drawn)
    if found.chance is not None:
        notes.append(axes.axhline(100 * found.chance, color="0.6", linestyle=":", linewidth=1.2, label="chance"))
    notes += _models(axes, found.frame)
    # Wrapped, so that the name of a long task stays over the axes and out of the legend.
    title = fill(f"{found.task + ': ' if found.task else ''}accuracy against size", _TITLE_WIDTH)
    axes.set_title(f"{title}\n{fill(_headline(found), _TITLE_WIDTH)}", fontsize=10)
    size_axis(axes)
    axes.set(ylabel="accuracy, % of questions", ylim=(-3, 103))
    explain_beside(axes, notes, alone=alone)
    return axes


def size_axis(axes: Axes) -> None:
    """Make the x axis one of parameters: logarithmic, its ticks written as 100M, 1B."""
    from circuitkit.thresholds.sentences import size

    axes.set_xscale("log")
    axes.set_xlabel("parameters")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: size(value)))
    low, high = axes.get_xlim()
    if high / low < 1000:
        axes.tick_params(axis="x", which="minor", labelsize=7)
        axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: size(value) if f"{value:e}"[0] in "25" else ""))
    else:
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.spines[["top", "right"]].set_visible(False)


def explain_beside(axes: Axes, notes: Sequence[Line2D | Patch], *, alone: bool) -> None:
    """Put a legend of many entries at the right of a figure of its own, or under axes that share theirs."""
    if alone:
        axes.figure.legend(handles=list(notes), loc="outside right upper", frameon=False, fontsize=8)
    else:
        explain(axes, notes, alone=False)


def mark_models(axes: Axes, frame: pd.DataFrame, x: str, y: str, *, factor: float = 100.0) -> list[Line2D]:
    """Mark a row each of a table by its family's colour and marker, open for instruct models, and give the legend."""
    looks = family_looks(list(frame["family"]))
    instruct = frame["instruct"].astype(bool) if "instruct" in frame else pd.Series(False, index=frame.index)
    for name, (colour, marker) in looks.items():
        for is_open in (False, True):
            rows = frame[(frame["family"] == name) & (instruct == is_open)]
            axes.plot(
                rows[x],
                factor * rows[y],
                marker,
                color=colour,
                markerfacecolor="white" if is_open else colour,
                markersize=6,
                zorder=4,
            )
    notes = [
        Line2D([], [], color=colour, marker=marker, linestyle="", label=name)
        for name, (colour, marker) in looks.items()
    ]
    if instruct.any() and not instruct.all():
        notes.append(
            Line2D([], [], color="0.3", marker="o", linestyle="", markerfacecolor="white", label="instruct (open)")
        )
    return notes


def models_against(
    frame: pd.DataFrame,
    x: str,
    y: str,
    *,
    title: str,
    x_name: str,
    y_name: str,
    joined: bool = True,
    axes: Axes | None = None,
) -> Axes:
    """Draw one number of each model against another, families told apart, `joined` in the order of size.

    `frame` has a row a model with `family`, `parameters` and the two columns, and `instruct` where that is known; the
    x axis is one of sizes where `x` is "parameters".

    >>> import pandas as pd
    >>> table = pd.DataFrame({"family": "x", "parameters": [1e6, 4e6], "score": [0.2, 0.5], "accuracy": [10, 60]})
    >>> models_against(table, "score", "accuracy", title="", x_name="score", y_name="accuracy, %").get_ylabel()
    'accuracy, %'
    """
    alone = axes is None
    axes = axes or new_axes(7.0, 4.8)
    looks = family_looks(list(frame["family"]))
    for name, rows in frame.sort_values("parameters").groupby("family") if joined else ():
        axes.plot(rows[x], rows[y], "-", color=looks[str(name)][0], linewidth=0.9, alpha=0.6, zorder=2)
    notes = mark_models(axes, frame, x, y, factor=1.0)
    axes.set_title(title, fontsize=10)
    if x == "parameters":
        size_axis(axes)
    else:
        axes.set_xlabel(x_name)
        axes.spines[["top", "right"]].set_visible(False)
    axes.set_ylabel(y_name)
    explain_beside(axes, notes, alone=alone)
    return axes


def _models(axes: Axes, frame: pd.DataFrame) -> list[Line2D]:
    looks = family_looks(list(frame["family"]))
    for row in frame.to_dict("records"):
        axes.vlines(
            row["parameters"], 100 * row["low"], 100 * row["high"], color=looks[row["family"]][0], linewidth=1.2
        )
    return mark_models(axes, frame, "parameters", "accuracy")


def _headline(found: Threshold) -> str:
    from circuitkit.thresholds.sentences import size

    low, high = found.interval
    match found.verdict:
        case "flat":
            return f"accuracy cannot be shown to go with size (p = {found.p_trend:.2g})"
        case "growth":
            return f"no threshold is told from a smooth rise (p = {found.p:.2g})"
        case _:
            sure = "a threshold" if found.verdict == "threshold" else "possibly a threshold"
            return f"{sure} at {size(found.breakpoint)} ({size(low)} to {size(high)}; p = {found.p:.2g})"
