"""Figures of the study of architecture against data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FixedLocator, NullLocator

from circuitkit.plots.figures import SEQUENTIAL, readable_on
from circuitkit.plots.painting import paint

# Okabe and Ito's colours, told apart under every common colour blindness; shapes tell the same once more.
LOOKS = (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#E69F00", "v"), ("#56B4E9", "P"))
OUTCOMES = {
    "headline": "proofs right, headline rule",
    "strict": "proofs right, strict rule",
    "validation_loss": "validation loss",
}


def learning(models: pd.DataFrame) -> Figure:
    """Draw accuracy and loss against the amount of data: a line an architecture, a mark a training."""
    figure = Figure(figsize=(12.5, 4.6), layout="constrained")
    for axes, (what, name) in zip(figure.subplots(1, 3), OUTCOMES.items(), strict=True):
        shown = models["validation_loss"] if what == "validation_loss" else 100 * models[what] / models["asked"]
        _lines(axes, models.assign(shown=shown))
        axes.set_title(name)
        if what == "validation_loss":
            axes.set(ylabel="nats a token of the proof", yscale="log")
        else:
            axes.set(ylabel="per cent of the test questions", ylim=(-2, 102))
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.suptitle("Decoders of equal size, equal steps: a mark is one training, lines join the means of its seeds")
    return figure


def _lines(axes: Axes, models: pd.DataFrame) -> None:
    names, amounts = list(dict.fromkeys(models["architecture"])), sorted(models["questions"].unique())
    for place, (name, (colour, marker)) in enumerate(zip(names, LOOKS, strict=False)):
        own = models[models["architecture"] == name]
        # Side by side, so that marks of equal height are all seen.
        aside = 1.06 ** (place - (len(names) - 1) / 2)
        axes.plot(own["questions"] * aside, own["shown"], marker, color=colour, alpha=0.55, markersize=5)
        means = own.groupby("questions")["shown"].mean()
        axes.plot(means.index * aside, means, marker=marker, color=colour, label=name, linewidth=1.6, markersize=7)
    axes.set(xscale="log", xlabel="distinct training questions (log scale)")
    axes.xaxis.set_major_locator(FixedLocator(amounts))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f"{amount:,}" for amount in amounts])
    axes.spines[["top", "right"]].set_visible(False)


def variance(shares: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw each source's share of the variance between models, corrected for chance, with its interval."""
    figure = Figure(figsize=(8.5, 4.4), layout="constrained")
    axes = figure.subplots()
    for place, ((what, table), (colour, marker)) in enumerate(zip(shares.items(), LOOKS, strict=False)):
        heights = np.arange(len(table))[::-1] + 0.22 * ((len(shares) - 1) / 2 - place)
        axes.hlines(heights, 100 * table["low"], 100 * table["high"], color=colour, linewidth=1.6)
        axes.plot(100 * table["corrected"], heights, marker, color=colour, label=OUTCOMES[what])
        sources = list(table["source"])
    axes.set_yticks(np.arange(len(sources))[::-1], [_said(source) for source in sources])
    axes.axvline(0, color="0.3", linewidth=0.8)
    axes.set(
        xlabel="share of the variance between trained models, per cent\n(omega squared; line: 95 % interval)",
        title="What makes one trained decoder better than another",
    )
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=len(shares), frameon=False)
    return figure


def _said(source: str) -> str:
    told = {
        "data": "amount of data",
        "architecture x data": "architecture with data",
        "seed": "seed (questions and their order)",
        "left over": "a training's own luck",
    }
    return told.get(source, source)


def loss_curves(curves: pd.DataFrame) -> Figure:
    """Draw training loss against steps, a panel an amount of data: the mean of the seeds, in nats a token."""
    amounts, names = sorted(curves["questions"].unique()), list(dict.fromkeys(curves["architecture"]))
    figure = Figure(figsize=(4.2 * len(amounts), 4.2), layout="constrained")
    panels = figure.subplots(1, len(amounts), sharey=True, squeeze=False)[0]
    for axes, amount in zip(panels, amounts, strict=True):
        for name, (colour, _) in zip(names, LOOKS, strict=False):
            own = curves[(curves["questions"] == amount) & (curves["architecture"] == name)]
            means = own.groupby("step")["loss"].mean()
            axes.plot(means.index, means, color=colour, label=name, linewidth=1.3)
        axes.set(title=f"{amount:,} questions", xlabel="step", yscale="log")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("training loss, nats a token of the proof (log scale)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.suptitle("Training loss, mean of the seeds")
    return figure


def kinds(by_kind: pd.DataFrame) -> Figure:
    """Draw the headline accuracy by rule and hops, a row an architecture and amount of data, seeds together."""
    pairs = by_kind[["rule", "hops"]].to_numpy()
    named = by_kind.assign(kind=[f"{rule.replace('_', ' ')}, {hops}" for rule, hops in pairs])
    order = list(dict.fromkeys(named["kind"]))
    shares = named.assign(share=100 * named["headline"] / named["asked"])
    table = shares.pivot_table(index=["architecture", "questions"], columns="kind", values="share", sort=False)[order]
    figure = Figure(figsize=(11.5, 2.6 + 0.36 * len(table)), layout="constrained")
    axes, values = figure.subplots(), table.to_numpy()
    image = paint(axes, values, mpl.colormaps[SEQUENTIAL], Normalize(0, 100), downwards=True)
    write_percentages(axes, image, values)
    axes.set_yticks(range(len(table)), [f"{name}, {amount:,}" for name, amount in table.index])
    axes.set_xticks(range(len(order)), order, rotation=35, ha="right")
    axes.set(xlabel="rule, hops", ylabel="architecture, questions", title="Proofs right by the headline rule")
    figure.colorbar(image, ax=axes, label="per cent of the test questions, seeds together", pad=0.02)
    return figure


def write_percentages(axes: Axes, image: AxesImage, values: Float[np.ndarray, "row column"]) -> None:
    """Write whole per cent into each cell, in black or white as can be read on its colour."""
    for (row, column), value in np.ndenumerate(values):
        colour = readable_on(image.cmap(image.norm(value)))
        axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=8, color=colour)


def families(tables: Sequence[tuple[str, pd.DataFrame, float | None]], title: str) -> Figure:
    """Draw accuracies of models side by side, families together: a panel a task, each with its chance level, if any."""
    figure = Figure(figsize=(max(5.0, 3.1 * len(tables) + 2.2), 5.2), layout="constrained")
    panels = figure.subplots(1, len(tables), sharey=True, squeeze=False)[0]
    for axes, (task, table, chance) in zip(panels, tables, strict=True):
        looks = dict(zip(dict.fromkeys(tables[0][1]["family"]), LOOKS * 9, strict=False))
        heights = np.arange(len(table))[::-1]
        for height, row in zip(heights, table.to_dict("records"), strict=True):
            colour, marker = looks[row["family"]]
            axes.hlines(height, 100 * row["low"], 100 * row["high"], color=colour, linewidth=2)
            fill = "white" if row["instruct"] else colour
            axes.plot(100 * row["accuracy"], height, marker, color=colour, markerfacecolor=fill, markersize=7)
        if chance is not None:
            axes.axvline(100 * chance, color="0.4", linestyle="--", linewidth=0.9)
            axes.annotate("chance", (100 * chance, heights[0] + 0.45), fontsize=8, color="0.3", ha="center")
        axes.set(title=task, xlabel="per cent right", xlim=(-3, 103))
        axes.set_yticks(heights, [f"{model} ({family})" for model, family in table[["model", "family"]].to_numpy()])
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{title}\nOpen mark: instruction-tuned; line: 95 % interval", fontsize=11)
    return figure
