"""Figures of the study that results do not draw themselves: how sure heads are, checkpoints, and overlaps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import circuitkit as ck

# Okabe and Ito's colours; marks tell them apart in grey.
BASE, POST, LOST = ("#0072B2", "s"), ("#D55E00", "o"), ("#999999", "x")
RECIPES = (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D"))


def sureness(changes: Mapping[str, ck.circuits.HeadChanges]) -> Figure:
    """Draw how often each head of a circuit is in resamples of base and post-trained model: a panel a recipe."""
    tables = {name: each.frame[each.frame["change"] != "neither"] for name, each in changes.items()}
    most = max(min(len(table), 40) for table in tables.values())
    figure = Figure(figsize=(1 + 3.6 * len(tables), 1.8 + 0.24 * most), layout="constrained")
    panels = figure.subplots(1, len(tables), squeeze=False)[0]
    for axes, (name, table) in zip(panels, tables.items(), strict=True):
        shown = table.head(40)
        at = np.arange(len(shown))
        if "in_base" in shown:
            axes.hlines(at, 100 * shown["in_base"], 100 * shown["in_post"], color="0.8")
            axes.plot(100 * shown["in_base"], at, BASE[1], color=BASE[0], fillstyle="none", label="in base")
            axes.plot(100 * shown["in_post"], at, POST[1], color=POST[0], label="in post-trained")
        labels = [f"L{row['layer']}H{row['head']} {row['change']}" for row in shown.to_dict("records")]
        axes.set_yticks(at, labels, fontsize=7)
        axes.set(xlim=(-4, 104), ylim=(len(shown) - 0.4, -0.6), xlabel="share of resamples (%)")
        axes.set_title(name, fontsize=9)
    handles, said = panels[0].get_legend_handles_labels()
    figure.legend(handles, said, loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    figure.suptitle("How often each head is in the circuit where problems are drawn anew", fontsize=10)
    return figure


def checkpoints(accuracies: pd.DataFrame, cohorts: Mapping[str, ck.circuits.Cohorts]) -> Figure:
    """Draw accuracy, heads of the base that stay and new heads over the checkpoints, a colour a recipe."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    steps = ["base", *next(iter(cohorts.values())).steps]
    at = np.arange(len(steps))
    left.vlines(at, 100 * accuracies["low"], 100 * accuracies["high"], color="0.2", linewidth=1.5)
    left.plot(at, 100 * accuracies["accuracy"], "o-", color="0.2")
    left.set(ylabel="right answers (%), Wilson's 95 %", ylim=(-3, 103), title="accuracy")
    for (name, each), (colour, mark) in zip(cohorts.items(), RECIPES, strict=False):
        kept = each.counts["retained"].to_numpy() / max(1, int(each.base.sum()))
        new = (each.active & ~each.base).sum((1, 2)).numpy()
        middle.plot(at, 100 * np.array([1.0, *kept]), f"{mark}-", color=colour, label=name)
        right.plot(at, [0, *new], f"{mark}-", color=colour, label=name)
    middle.set(ylabel="of the base's heads (%)", ylim=(-3, 103), title="heads of the base that are active")
    right.set(ylabel="heads", title="heads that are active and were not in the base")
    for axes in (left, middle, right):
        axes.set_title(axes.get_title(), fontsize=9)
        axes.set_xticks(at, [str(step) for step in steps], fontsize=8)
        axes.set_xlabel("step of post-training")
        axes.spines[["top", "right"]].set_visible(False)
    handles, said = middle.get_legend_handles_labels()
    figure.legend(handles, said, loc="outside lower center", ncols=len(said), frameon=False, fontsize=8)
    return figure


def overlaps(table: pd.DataFrame) -> Figure:
    """Draw the Jaccard index of edges of every two circuits, chance below it: a panel a recipe."""
    recipes = list(dict.fromkeys(table["recipe"]))
    figure = Figure(figsize=(1 + 4.2 * len(recipes), 4.2), layout="constrained")
    panels = figure.subplots(1, len(recipes), squeeze=False)[0]
    for axes, recipe in zip(panels, recipes, strict=True):
        own = table[(table["recipe"] == recipe) & (table["of"] == "edges")]
        _matrix(axes, own)
        axes.set_title(recipe, fontsize=9)
    figure.suptitle("Edges in common: Jaccard index (by chance, layers kept); * p < 0.05 after Holm", fontsize=10)
    return figure


def _matrix(axes: Axes, own: pd.DataFrame) -> None:
    names = list(dict.fromkeys([*own["one"], *own["other"]]))
    values = np.full((len(names), len(names)), np.nan)
    for row in own.to_dict("records"):
        one, other = names.index(row["one"]), names.index(row["other"])
        values[other, one] = row["jaccard"]
        sure = "*" if row["p_corrected"] < 0.05 else ""
        said = f"{row['jaccard']:.2f}{sure}\n({row['chance']:.2f})"
        colour = "white" if row["jaccard"] < 0.5 else "black"
        axes.text(one, other, said, ha="center", va="center", fontsize=7, color=colour)
    axes.imshow(np.ma.masked_invalid(values), cmap="cividis", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set(xlabel="checkpoint", ylabel="checkpoint", xlim=(-0.5, len(names) - 1.5), ylim=(len(names) - 0.5, 0.5))
