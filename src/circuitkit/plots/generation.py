"""What changing heads does to a model's answers: effects beside random sets', by difficulty, and how answers end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from circuitkit.circuits.comparing.failures import OUTCOMES, Outcome
from circuitkit.circuits.comparing.generation_runs import ITSELF
from circuitkit.plots.figures import NewFigure, new_axes

if TYPE_CHECKING:
    from circuitkit.circuits.comparing.generation_outcome import GenerationEffects
    from circuitkit.circuits.comparing.generation_runs import GenerationRun

# Okabe and Ito's colours; marks tell them apart in grey.
_LOOKS = (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#E69F00", "v"), ("#000000", "P"))
_CONTROL = "0.62"
_LOOK_OF: dict[Outcome, tuple[str, str]] = {
    "right": ("#0072B2", ""),
    "wrong step": ("#E69F00", "//"),
    "no conclusion": ("#F0E442", ".."),
    "loop": ("#D55E00", "xx"),
    "over-long": ("#999999", "\\\\"),
}


def effects_beside_controls(found: GenerationEffects) -> Axes:
    """Draw each set's effect on accuracy with its 95 % interval, and every random set's beside it.

    Returns:
        The axes, of a figure of its own.
    """
    table, responses = found.frame, found.runs
    axes = new_axes(7.5, 1.6 + 0.42 * len(table))
    sets = list(dict.fromkeys(table["set"]))
    base = float(found.intact.right.mean())
    for place, row in enumerate(table.to_dict("records")):
        colour, mark = _LOOKS[sets.index(row["set"]) % len(_LOOKS)]
        others = [
            100 * (run.right.mean() - base)
            for run in responses
            if (run.set, run.way) == (row["set"], row["way"]) and run.draw != ITSELF
        ]
        axes.plot(others, np.full(len(others), place + 0.18), "|", color=_CONTROL, markersize=9)
        axes.hlines(place - 0.1, 100 * row["low"], 100 * row["high"], color=colour, linewidth=1.8)
        axes.plot(100 * row["effect"], place - 0.1, mark, color=colour, markersize=7)
    axes.plot([], [], "|", color=_CONTROL, markersize=9, label="random sets, as many heads in each layer")
    axes.axvline(0, color="0.3", linewidth=0.8)
    labels = [f"{row['set']} ({row['heads']}), {row['way']}" for row in table.to_dict("records")]
    axes.set_yticks(range(len(table)), labels, fontsize=8)
    axes.set_ylim(len(table) - 0.4, -0.6)
    axes.set(xlabel="change of accuracy (points), 95 % interval")
    axes.set_title(f"{found.model}: heads changed while it writes, intact {100 * base:.0f} % right", fontsize=10)
    axes.figure.legend(loc="outside lower center", frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def effects_by_level(found: GenerationEffects, difficulty: str | None) -> Axes:
    """Draw effects on accuracy by difficulty, a panel a way, and the middle 95 % of the random sets' behind each.

    Returns:
        The first panel's axes.
    """
    table = found.by(difficulty)
    ways, sets = _names(table, "way"), _names(table, "set")
    figure = NewFigure(1.2 + 3.1 * len(ways), 1.2 + 2.3 * len(sets))
    panels = figure.subplots(len(sets), len(ways), squeeze=False, sharey=True, sharex=True)
    for row, (name, look) in enumerate(zip(sets, _LOOKS * len(sets), strict=False)):
        for axes, way in zip(panels[row], ways, strict=True):
            _levels(axes, table[(table["set"] == name) & (table["way"] == way)], *look)
            axes.set_title(f"{name}, {way}", fontsize=9)
    levels = _names(table, "level")
    intact = table.drop_duplicates("level").set_index("level")["before"]
    for axes in panels[-1]:
        axes.set_xticks(range(len(levels)), [f"{level}\n{100 * intact[level]:.0f}%" for level in levels], fontsize=8)
    figure.supxlabel(f"{difficulty or 'difficulty'}, easiest first; below, what the intact model has right", fontsize=9)
    figure.supylabel("change of accuracy (points)", fontsize=9)
    figure.suptitle(
        f"{found.model}: what changing heads does, by difficulty (grey: middle 95 % of random sets)", fontsize=10
    )
    first: Axes = panels[0, 0]
    return first


def _levels(axes: Axes, rows: pd.DataFrame, colour: str, mark: str) -> None:
    at = np.arange(len(rows))
    controls = rows[["control_low", "control_high", "control_effect"]].to_numpy(float)
    if np.isfinite(controls).any():
        axes.bar(at, 100 * (controls[:, 1] - controls[:, 0]), 0.6, bottom=100 * controls[:, 0], color="0.85")
        axes.hlines(100 * controls[:, 2], at - 0.3, at + 0.3, color=_CONTROL, linewidth=1.5)
    axes.vlines(at, 100 * rows["low"], 100 * rows["high"], color=colour, linewidth=1.6)
    axes.plot(at, 100 * rows["effect"], mark, color=colour, markersize=6)
    axes.axhline(0, color="0.3", linewidth=0.8)
    # Bars would end the axes where marks are still to be seen.
    axes.use_sticky_edges = False
    axes.margins(y=0.08)
    axes.spines[["top", "right"]].set_visible(False)


def outcome_shares(found: GenerationEffects) -> Axes:
    """Draw how answers end as stacked shares: intact, under each change, and the mean of its random sets beside it.

    Returns:
        The axes, of a figure of its own.
    """
    bars = {"intact": _shares([found.intact])}
    for run in found.runs:
        if run.draw == ITSELF:
            bars[f"{run.set}, {run.way}"] = _shares([run])
            others = [each for each in found.runs if (each.set, each.way) == (run.set, run.way) and each is not run]
            if others:
                bars[f"random for {run.set}, {run.way}"] = _shares(others)
    axes = new_axes(8.5, 1.8 + 0.3 * len(bars))
    left = np.zeros(len(bars))
    for outcome, (colour, hatch) in _LOOK_OF.items():
        part = np.array([100 * each[outcome] for each in bars.values()])
        axes.barh(
            np.arange(len(bars)), part, 0.75, left=left, color=colour, hatch=hatch, edgecolor="white", label=outcome
        )
        left = left + part
    axes.set_yticks(range(len(bars)), list(bars), fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="share of answers (%)", xlim=(0, 100))
    axes.set_title(f"{found.model}: how answers end while heads are changed", fontsize=10)
    axes.figure.legend(loc="outside lower center", ncols=len(_LOOK_OF), frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _shares(runs: Sequence[GenerationRun]) -> dict[Outcome, float]:
    """The mean share of each outcome."""
    return {outcome: float(np.mean([run.ended(outcome).mean() for run in runs])) for outcome in OUTCOMES}


def _names(table: pd.DataFrame, column: str) -> list[str]:
    return list(dict.fromkeys(table[column]))
