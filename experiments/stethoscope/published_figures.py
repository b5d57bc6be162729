"""Figures of the published tables: accuracies with intervals, mean lengths, and levels in colours."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's colours; marks tell them apart in grey.
LOOKS = (("#000000", "o"), ("#E69F00", "s"), ("#0072B2", "^"), ("#009E73", "D"), ("#D55E00", "v"))
LEVELS = {"I": "#D55E00", "II": "#E69F00", "III": "#56B4E9", "IV": "#0072B2"}
MEANING = {"I": "nonsense", "II": "off the task", "III": "on the task, wrong", "IV": "reasons"}


def merges(table: pd.DataFrame) -> Figure:
    """Draw Table 1: accuracy with its interval beside the mean number of tokens."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    at, colours = np.arange(len(table)), [colour for colour, _ in LOOKS]
    _with_intervals(left, at, table, colours)
    left.set(ylabel="right answers (% of 30)", xlabel="grafted into A", title="accuracy, 95 % Wilson intervals")
    right.bar(at, table["tokens"], color=colours[: len(table)], width=0.6)
    right.axhline(16_384, color="0.4", linestyle="--", linewidth=1)
    right.text(0, 16_384, "broken off", va="bottom", ha="center", fontsize=8, color="0.3")
    for place, level in zip(at, table["level"], strict=True):
        if isinstance(level, str):
            right.text(place, 250, level, ha="center", va="bottom", color="white", fontweight="bold")
    right.set(ylabel="tokens (mean, prompt included)", xlabel="grafted into A", title="length, and the level told")
    for axes in (left, right):
        axes.set_xticks(at, table["merged"], fontsize=8)
    figure.suptitle(
        "Shao & Wu 2025, Table 1: AIME 2024, R1-Distill-Qwen-1.5B grafted into Qwen2.5-Math-1.5B", fontsize=10
    )
    return figure


def _with_intervals(axes: Axes, at: np.ndarray, rows: pd.DataFrame, colours: list[str]) -> None:
    for place, (row, colour) in zip(at, zip(rows.to_dict("records"), colours, strict=False), strict=True):
        axes.vlines(place, 100 * row["low"], 100 * row["high"], color=colour, linewidth=1.5)
        axes.plot(place, 100 * row["accuracy"], "o", color=colour, markersize=7)
    axes.set_ylim(-2, 102 if rows["high"].max() > 0.6 else 62)


def trainings(table: pd.DataFrame) -> Figure:
    """Draw Table 2: a panel a benchmark, a colour a training, 95 % intervals."""
    benchmarks, models = list(dict.fromkeys(table["benchmark"])), list(dict.fromkeys(table["model"]))
    arms = list(dict.fromkeys(table["trained"]))
    figure = Figure(figsize=(3.6 * len(benchmarks), 4.2), layout="constrained")
    panels = figure.subplots(1, len(benchmarks), squeeze=False)[0]
    for axes, benchmark in zip(panels, benchmarks, strict=True):
        part = table[table["benchmark"] == benchmark]
        for place, (arm, (colour, mark)) in enumerate(zip(arms, LOOKS, strict=True)):
            rows = part[part["trained"] == arm].set_index("model").loc[models]
            x = np.arange(len(models)) + 0.15 * (place - (len(arms) - 1) / 2)
            axes.vlines(x, 100 * rows["low"], 100 * rows["high"], color=colour, linewidth=1.3)
            axes.plot(x, 100 * rows["accuracy"], mark, color=colour, markersize=6, label=arm)
        axes.set_xticks(range(len(models)), [name.removesuffix("-Instruct") for name in models], fontsize=8)
        axes.set(title=f"{benchmark} (n = {part['n'].iloc[0]})", ylabel="right answers (%)", xlabel="model")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(arms), frameon=False, fontsize=8)
    figure.suptitle("Shao & Wu 2025, Table 2: which modules are trained, 95 % Wilson intervals", fontsize=10)
    return figure


def destruction(table: pd.DataFrame) -> Figure:
    """Draw Table 3: the level of each module and way, told apart by colour and numeral."""
    ways, modules = list(dict.fromkeys(table["how"])), list(dict.fromkeys(table["module"]))
    figure = Figure(figsize=(8, 2.9), layout="constrained")
    axes = figure.subplots()
    for row in table.to_dict("records"):
        x, y = modules.index(row["module"]), ways.index(row["how"])
        axes.add_patch(_square(x, y, LEVELS[row["level"]]))
        axes.text(x, y, row["level"], ha="center", va="center", color="white", fontweight="bold")
    axes.set(xlim=(-0.5, len(modules) - 0.5), ylim=(len(ways) - 0.5, -0.5))
    axes.set_xticks(range(len(modules)), modules, fontsize=8)
    axes.set_yticks(range(len(ways)), ways)
    axes.set(xlabel="destroyed in blocks 5 to 29 of 64", ylabel="how", title="Shao & Wu 2025, Table 3: Qwen2.5-32B")
    notes = [_square(0, 0, colour) for colour in LEVELS.values()]
    told = [f"{level}: {MEANING[level]}" for level in LEVELS]
    figure.legend(notes, told, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return figure


def _square(x: float, y: float, colour: str) -> object:
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.46, y - 0.42), 0.92, 0.84, color=colour)
