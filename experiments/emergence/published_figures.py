"""Figures of the published tables: scores with intervals, and differences to the intact models."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's colours; marks tell them apart in grey.
LOOKS = (
    ("#000000", "o"), ("#0072B2", "s"), ("#D55E00", "^"), ("#009E73", "D"), ("#E69F00", "v"), ("#CC79A7", "P"),
)  # fmt: skip


def scores(table: pd.DataFrame, name: str, caption: str) -> Figure:
    """Draw one table: a panel a model, a group a benchmark, a colour a set of heads, 95 % intervals."""
    part = table[table["table"] == name]
    models = list(dict.fromkeys(part["model"]))
    arms = list(dict.fromkeys(part["heads"]))
    figure = Figure(figsize=(2.5 + 4.2 * len(models), 4.4), layout="constrained")
    panels = figure.subplots(1, len(models), squeeze=False, sharey=True)[0]
    for axes, model in zip(panels, models, strict=True):
        own = part[part["model"] == model]
        benchmarks = list(dict.fromkeys(own["benchmark"]))
        for place, (arm, (colour, mark)) in enumerate(zip(arms, LOOKS, strict=False)):
            rows = own[own["heads"] == arm].set_index("benchmark").loc[benchmarks]
            at = np.arange(len(benchmarks)) + (place - (len(arms) - 1) / 2) * 0.8 / len(arms)
            axes.vlines(at, 100 * rows["low"], 100 * rows["high"], color=colour, linewidth=1.5)
            axes.plot(at, 100 * rows["score"], mark, color=colour, markersize=6, label=arm)
        _benchmarks(axes, own, benchmarks)
        axes.set_title(model, fontsize=10)
    panels[0].set_ylabel("right answers (%)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(arms), frameon=False, fontsize=8)
    figure.suptitle(f"Thinking Sparks, Table {name}: {caption}; 95 % Wilson intervals", fontsize=10)
    return figure


def _benchmarks(axes: Axes, own: pd.DataFrame, benchmarks: list[str]) -> None:
    items = own.drop_duplicates("benchmark").set_index("benchmark")["n"]
    axes.set_xticks(range(len(benchmarks)), [f"{each}\n{items[each]}" for each in benchmarks], fontsize=8)
    axes.set_xlabel("benchmark, and how many problems it has")
    axes.set_ylim(-3, 103)
    axes.grid(axis="y", color="0.92", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def differences(against: pd.DataFrame) -> Figure:
    """Draw every difference to the intact model with its interval; those that are borne after Holm are filled."""
    rows = against[against["benchmark"] != "all"].reset_index(drop=True)
    benchmarks = list(dict.fromkeys(rows["benchmark"]))
    groups = list(dict.fromkeys(zip(rows["table"], rows["model"], rows["heads"], strict=True)))
    figure = Figure(figsize=(9.5, 1.4 + 0.42 * len(groups)), layout="constrained")
    axes = figure.subplots()
    for row in rows.to_dict("records"):
        colour, mark = LOOKS[1 + benchmarks.index(row["benchmark"])]
        place = groups.index((row["table"], row["model"], row["heads"]))
        place += (benchmarks.index(row["benchmark"]) - (len(benchmarks) - 1) / 2) * 0.15
        borne = row["p_most_corrected"] < 0.05
        axes.hlines(place, 100 * row["low"], 100 * row["high"], color=colour, linewidth=1.2)
        axes.plot(
            100 * row["difference"], place, mark, color=colour, markersize=6, fillstyle="full" if borne else "none"
        )
    for benchmark, (colour, mark) in zip(benchmarks, LOOKS[1:], strict=False):
        axes.plot([], [], mark, color=colour, label=benchmark)
    axes.axvline(0, color="0.3", linewidth=0.8)
    axes.set_yticks(range(len(groups)), [f"{model}: {heads}" for _, model, heads in groups], fontsize=8)
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.set_xlabel("points against the intact model, 95 % interval (Newcombe's, unpaired)")
    axes.set_title(
        "Thinking Sparks, Tables 1, 2, 4, 5: filled where the difference is borne after Holm however answers overlap",
        fontsize=9,
    )
    figure.legend(loc="outside lower center", ncols=len(benchmarks), frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
