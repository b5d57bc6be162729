"""The figures of `who_reasons.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

# Okabe and Ito's colours, told apart under every common colour blindness; marks tell them apart in grey.
LOOKS = {
    "o_proj": ("#D55E00", "o"),
    "q, k, v": ("#0072B2", "s"),
    "mlp": ("#009E73", "^"),
    "q_proj": ("#56B4E9", "D"),
    "k_proj": ("#56B4E9", "v"),
    "v_proj": ("#56B4E9", "P"),
    "gate_proj": ("#CC79A7", "D"),
    "up_proj": ("#CC79A7", "v"),
    "down_proj": ("#CC79A7", "P"),
}
OTHER = ("#000000", "X")
GREY = "0.65"
LEVELS = {"level I": "#D55E00", "level II": "#E69F00", "level III": "#56B4E9", "level IV": "#0072B2"}
MEANING = {"level I": "nonsense", "level II": "off the task", "level III": "on the task, wrong", "level IV": "right"}
RIGHT = "right answers (%)"


def merges(table: pd.DataFrame, controls: pd.DataFrame, ends: pd.DataFrame) -> Figure:
    """Draw what each graft does to the accuracy, both ways: a row of panels a pair, controls in grey."""
    pairs, directions = _names(table, "pair"), _names(table, "direction")
    figure = Figure(figsize=(5.2 * len(directions), 0.6 + 3.5 * len(pairs)), layout="constrained")
    panels = figure.subplots(len(pairs), len(directions), squeeze=False)
    for row, pair in zip(panels, pairs, strict=True):
        for axes, direction in zip(row, directions, strict=True):
            own = table[(table["pair"] == pair) & (table["direction"] == direction)]
            drawn = controls[(controls["pair"] == pair) & (controls["direction"] == direction)]
            _beside_controls(axes, own[own["kind"] == "set"], drawn)
            known = ends.set_index("pair").loc[pair]
            for name, style in (("A", ":"), ("B", "--")):
                axes.axvline(100 * known[name], color="0.3", linestyle=style, linewidth=1)
            axes.set_title(f"{pair}: modules {_put(direction)}", fontsize=9)
            axes.set(xlabel=RIGHT, xlim=(-3, 103))
    _notes(
        figure, [Line2D([], [], color="0.3", linestyle=style, label=name) for name, style in (("A", ":"), ("B", "--"))]
    )
    figure.suptitle("Grafts between the twins, beside as many parameters of other modules", fontsize=11)
    return figure


def _put(direction: str) -> str:
    return "of B put into A" if direction == "into A" else "of A put back into B"


def _beside_controls(axes: Axes, rows: pd.DataFrame, drawn: pd.DataFrame) -> None:
    names, rng = rows["set"].tolist(), np.random.default_rng(0)
    for place, row in enumerate(rows.to_dict("records")):
        own = drawn[(drawn["set"] == row["set"]) & (drawn["kind"] == "slices")]
        spread = place + 0.22 + rng.uniform(-0.1, 0.1, len(own))
        axes.plot(100 * own["accuracy"], spread, ".", color=GREY, markersize=3.5, alpha=0.7, zorder=1)
        if len(own):
            axes.plot(100 * own["accuracy"].mean(), place + 0.22, "|", color="0.25", markersize=11, zorder=2)
        colour, mark = LOOKS.get(row["set"], OTHER)
        axes.hlines(place - 0.12, 100 * row["low"], 100 * row["high"], color=colour, linewidth=1.6)
        axes.plot(100 * row["accuracy"], place - 0.12, mark, color=colour, markersize=6, zorder=3)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="x", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


def _notes(figure: Figure, more: Sequence[Any] = ()) -> None:
    notes = [
        Line2D([], [], color="0.2", marker="o", linewidth=1.6, label="modules, 95 % interval"),
        Line2D([], [], color=GREY, marker=".", linestyle="", label="as many parameters of other modules"),
        Line2D([], [], color="0.25", marker="|", linestyle="", markersize=11, label="their mean"),
        *more,
    ]
    figure.legend(handles=notes, loc="outside lower center", ncols=len(notes), frameon=False, fontsize=8)


def labour(table: pd.DataFrame, controls: pd.DataFrame, ends: pd.DataFrame) -> Figure:
    """Draw accuracy against fluency for every graft: who loses which of the two."""
    pairs, directions = _names(table, "pair"), _names(table, "direction")
    figure = Figure(figsize=(5.2 * len(directions), 0.8 + 3.4 * len(pairs)), layout="constrained")
    panels = figure.subplots(len(pairs), len(directions), squeeze=False)
    for row, pair in zip(panels, pairs, strict=True):
        for axes, direction in zip(row, directions, strict=True):
            own = table[(table["pair"] == pair) & (table["direction"] == direction) & (table["kind"] == "set")]
            drawn = controls[(controls["pair"] == pair) & (controls["direction"] == direction)]
            axes.plot(drawn["fluency"], 100 * drawn["accuracy"], ".", color=GREY, markersize=3, alpha=0.6)
            for each in own.to_dict("records"):
                colour, mark = LOOKS.get(each["set"], OTHER)
                axes.plot(each["fluency"], 100 * each["accuracy"], mark, color=colour, markersize=7, label=each["set"])
            known = ends.set_index("pair").loc[pair]
            for name, mark in (("A", "$A$"), ("B", "$B$")):
                axes.plot(known[f"{name}, fluency"], 100 * known[name], marker=mark, color="black", markersize=9)
            axes.set_title(f"{pair}: modules {_put(direction)}", fontsize=9)
            axes.set(ylabel=RIGHT, ylim=(-4, 104))
            axes.set_xlabel("fluency: log-likelihood of rules and facts (nats a token)")
    handles, labels = panels[0][0].get_legend_handles_labels()
    handles.append(Line2D([], [], color=GREY, marker=".", linestyle=""))
    columns = min(5, len(handles))
    figure.legend(handles, [*labels, "controls"], loc="outside lower center", ncols=columns, frameon=False, fontsize=8)
    figure.suptitle("Reasoning and fluency of grafted models", fontsize=11)
    return figure


def levels(table: pd.DataFrame) -> Figure:
    """Draw the shares of the four levels of responses for every graft."""
    pairs, directions = _names(table, "pair"), _names(table, "direction")
    figure = Figure(figsize=(5.2 * len(directions), 0.6 + 3.3 * len(pairs)), layout="constrained")
    panels = figure.subplots(len(pairs), len(directions), squeeze=False)
    for row, pair in zip(panels, pairs, strict=True):
        for axes, direction in zip(row, directions, strict=True):
            own = table[(table["pair"] == pair) & (table["direction"] == direction)]
            left = np.zeros(len(own))
            for level, colour in LEVELS.items():
                share = 100 * own[level].to_numpy(dtype=float)
                axes.barh(range(len(own)), share, left=left, color=colour, height=0.75)
                left += share
            axes.set_yticks(range(len(own)), own["set"], fontsize=8)
            axes.set(ylim=(len(own) - 0.4, -0.6), xlim=(0, 100), xlabel="responses (%)")
            axes.set_title(f"{pair}: modules {_put(direction)}", fontsize=9)
    notes = [Patch(color=colour, label=f"{level}: {MEANING[level]}") for level, colour in LEVELS.items()]
    figure.legend(handles=notes, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    figure.suptitle("Levels of responses", fontsize=11)
    return figure


def trainings(table: pd.DataFrame) -> Figure:
    """Draw the accuracy of each training in part against the number of weights that it trains, and seed by seed."""
    bases = _names(table, "base")
    figure = Figure(figsize=(10, 0.8 + 4 * len(bases)), layout="constrained")
    panels = figure.subplots(len(bases), 2, squeeze=False)
    for (left, right), base in zip(panels, bases, strict=True):
        own = table[table["base"] == base]
        rows, drawn = own[own["kind"] == "set"], own[own["kind"] == "control"]
        left.plot(drawn["trainable"], 100 * drawn["accuracy"], ".", color=GREY, markersize=5)
        for row in rows.to_dict("records"):
            colour, mark = LOOKS.get(row["set"], OTHER)
            left.vlines(row["trainable"], 100 * row["low"], 100 * row["high"], color=colour, linewidth=1.3)
            left.plot(row["trainable"], 100 * row["accuracy"], mark, color=colour, markersize=6)
        left.set(xscale="log", xlabel="trained parameters", ylabel=RIGHT, ylim=(-3, 103), title=base)
        _seed_by_seed(right, rows, drawn)
        right.set_title(f"{base}: embedding, unembedding, norms and …", fontsize=9)
    _notes(figure)
    figure.suptitle("Training some modules alone, with embedding, unembedding and norms", fontsize=11)
    return figure


def _seed_by_seed(axes: Axes, rows: pd.DataFrame, drawn: pd.DataFrame) -> None:
    for place, row in enumerate(rows.to_dict("records")):
        colour, mark = LOOKS.get(row["set"], OTHER)
        each = [float(share) for share in str(row["seeds"]).split(", ")]
        axes.plot(each, np.full(len(each), place), mark, color=colour, markersize=5, alpha=0.6)
        axes.plot(100 * row["accuracy"], place, "|", color=colour, markersize=14)
        if row["set"] == "o_proj":
            axes.plot(100 * drawn["accuracy"], np.full(len(drawn), place + 0.3), ".", color=GREY, markersize=5)
    axes.set_yticks(range(len(rows)), rows["set"], fontsize=8)
    axes.set(ylim=(len(rows) - 0.4, -0.6), xlim=(-3, 103), xlabel=f"{RIGHT}, a mark a seed")
    axes.grid(axis="x", color="0.9", linewidth=0.6)


def destructions(table: pd.DataFrame, pair: str) -> Figure:
    """Draw accuracy and fluency of a destroyed model: a panel a way, a row a set, a column a layer."""
    own = table[table["pair"] == pair]
    hows = [how for how in _names(own, "how") if how not in ("none", "remove")]
    intact = own[own["how"] == "none"].iloc[0]
    figure = Figure(figsize=(1.2 + 3.6 * max(1, len(hows)), 7.4), layout="constrained")
    panels = figure.subplots(2, max(1, len(hows)), squeeze=False)
    for column, how in enumerate(hows):
        part = own[own["how"] == how]
        for axes, name, told in zip(panels[:, column], ("accuracy", "fluency_change"), _LEFT, strict=True):
            _grid(axes, part, name)
            axes.set_title(f"{how}: {told}", fontsize=9)
    removed = own[own["how"] == "remove"]
    told = "; ".join(f"layer {row['layers']} {100 * row['accuracy']:.0f} %" for row in removed.to_dict("records"))
    left = f"\nleft of it with whole layers removed: {told}" if told else ""
    figure.suptitle(f"{pair}: modules of B destroyed, intact {100 * intact['accuracy']:.0f} % right{left}", fontsize=10)
    return figure


_LEFT = ("right answers left (%)", "change of fluency (nats a token)")


def _grid(axes: Axes, part: pd.DataFrame, name: str) -> None:
    rows, columns = _names(part, "set"), _names(part, "layers")
    values = part.pivot(index="set", columns="layers", values=name).reindex(index=rows, columns=columns).to_numpy(float)
    shown = 100 * values if name == "accuracy" else values
    ends = (0, 100) if name == "accuracy" else (min(-0.1, float(np.nanmin(values))), 0)
    axes.imshow(shown, cmap="cividis", aspect="auto", vmin=ends[0], vmax=ends[1])
    for row in range(len(rows)):
        for column in range(len(columns)):
            bright = (shown[row, column] - ends[0]) / (ends[1] - ends[0]) > 0.6
            said = f"{shown[row, column]:.0f}" if name == "accuracy" else f"{shown[row, column]:.2f}"
            axes.text(column, row, said, ha="center", va="center", fontsize=8, color="black" if bright else "white")
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    axes.set_xlabel("layer")


def _names(table: pd.DataFrame, column: str) -> list[str]:
    return list(dict.fromkeys(table[column]))
