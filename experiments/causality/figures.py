"""The figures of `attention_causality.py`."""

from __future__ import annotations

from itertools import product

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from causality.cells import Questions

# Okabe and Ito's colours, told apart under every common colour blindness; markers tell them apart in grey.
LOOKS = {
    "chosen": ("#D55E00", "o", "most attended"),
    "right": ("#D55E00", "o", "the next gold token's occurrences"),
    "random": ("#0072B2", "s", "random"),
    "same part of speech": ("#009E73", "^", "random, same part of speech"),
}
SETS = {"all": "of all tokens", "content": "of content words"}


def masking_figure(table: pd.DataFrame, models: pd.DataFrame, asked: Questions) -> Figure:
    """Accuracy against the number of masked tokens: a column a model, a row a set of tokens."""
    names, sets = list(table["model"].unique()), list(table["tokens"].unique())
    figure, panels = _panels(len(sets), len(names))
    ks = sorted(table["k"].unique())
    for (row, tokens), (column, name) in product(enumerate(sets), enumerate(names)):
        axes, clean = panels[row][column], models.set_index("model").loc[name]
        axes.axhline(100 * clean["accuracy"], color="0.35", linestyle="--", linewidth=1, label="nothing masked")
        here = table[(table["model"] == name) & (table["tokens"] == tokens)]
        for shift, kind in enumerate(("chosen", "random", "same part of speech")):
            rows = here[here["masked"] == kind].sort_values("k")
            at = [ks.index(k) + 0.08 * (shift - 1) for k in rows["k"]]
            whole = rows["accuracy"] + rows["loss"]
            # Intervals are of losses, and a loss's may reach beyond all that there is to lose.
            low, high = ((whole - rows[f"loss_{end}"]).clip(0, 1) for end in ("high", "low"))
            _line(axes, at, 100 * rows["accuracy"], 100 * low, 100 * high, kind)
        axes.set_xticks(range(len(ks)), [str(k) for k in ks])
        axes.set_title(f"{name}: {SETS[tokens]}, n = {int(here['n'].iloc[0])}", fontsize=9)
        axes.set(xlabel="prompt tokens masked", ylim=(-3, 103))
    for first in panels:
        first[0].set_ylabel("correct proofs (%)")
    _finish(
        figure,
        panels[0][0],
        f"Masking tokens while proofs are written ({_asked(asked)}), in all layers and heads",
        "of the loss",
    )
    return figure


def forcing_figure(table: pd.DataFrame, asked: Questions) -> Figure:
    """Gain of next-token accuracy against the layer that is forced: a column a model, a row a weight."""
    matched = table[table["steps"] == "matched"]
    names, weights = list(matched["model"].unique()), sorted(matched["weight"].unique())
    figure, panels = _panels(len(weights), len(names))
    for (row, weight), (column, name) in product(enumerate(weights), enumerate(names)):
        axes = panels[row][column]
        axes.axhline(0, color="0.35", linestyle="--", linewidth=1, label="not forced")
        here = matched[(matched["model"] == name) & (matched["weight"] == weight)]
        layers = list(here["layer"].unique())
        for shift, kind in enumerate(("right", "random", "same part of speech")):
            rows = here[here["forced_onto"] == kind]
            at = [layers.index(layer) + 0.12 * (shift - 1) for layer in rows["layer"]]
            _line(axes, at, 100 * rows["gain"], 100 * rows["gain_low"], 100 * rows["gain_high"], kind, joined=False)
        axes.set_xticks(range(len(layers)), layers)
        before, n = 100 * here["not_forced"].iloc[0], int(here["n"].iloc[0])
        axes.set_title(f"{name}, weight {weight:g} ({before:.0f} % not forced, n = {n:,})", fontsize=9)
        axes.set_xlabel("layer whose heads are forced")
    for first in panels:
        first[0].set_ylabel("gain of next-token accuracy (points)")
    _finish(figure, panels[0][0], f"Forcing attention on gold proofs ({_asked(asked)})", "of the gain")
    return figure


def _asked(asked: Questions) -> str:
    hops = "1 hop" if asked.hops == 1 else f"{asked.hops} hops"
    return f"{asked.rule.replace('_', ' ')}, {hops}"


def _panels(rows: int, columns: int) -> tuple[Figure, list[list[Axes]]]:
    figure = Figure(figsize=(3.6 * columns + 0.8, 3.2 * rows + 1), layout="constrained")
    return figure, [list(row) for row in figure.subplots(rows, columns, sharey="row", squeeze=False)]


def _line(
    axes: Axes, at: list[float], values: pd.Series, low: pd.Series, high: pd.Series, kind: str, *, joined: bool = True
) -> None:
    colour, marker, label = LOOKS[kind]
    # An interval of a skewed mean may end short of it by a rounding.
    reach = [(values - low).clip(lower=0), (high - values).clip(lower=0)]
    axes.errorbar(
        at, values, yerr=reach, color=colour, marker=marker, label=label, capsize=2, linestyle="-" if joined else "none"
    )


def _finish(figure: Figure, first: Axes, title: str, of: str) -> None:
    handles, labels = first.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8, frameon=False)
    figure.suptitle(f"{title}; 95 % intervals {of}", fontsize=10)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="0.9", linewidth=0.6)
