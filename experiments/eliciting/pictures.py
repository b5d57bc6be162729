"""The study's figures: the paper's four, how weights moved, how alike representations stayed, and both against gain."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from eliciting import comparing, figures

ROLES = (
    "embed",
    "embed+lm_head",
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
    "norm",
    "lm_head",
)
ALIKE = {
    "cka_base": ("base and trained", "#0072b2", "-", "o"),
    "cka_skyline": ("trained and skyline", "#d55e00", "-", "s"),
    "cka_base_skyline": ("base and skyline", "0.4", "--", "^"),
}


def drawn(
    found: pd.DataFrame,
    runs: pd.DataFrame,
    moves: pd.DataFrame,
    alike: pd.DataFrame,
    cells: pd.DataFrame,
    gains: Mapping[int, pd.DataFrame],
) -> dict[str, Figure]:
    """All figures of a study, by the names of their files."""
    few = int(min(cells["examples"]))
    pictures = {
        "figure_1": figures.shares(found[found["training"].isin(["full", "lora"])]),
        "figure_2": loss_against_gain(found),
        "figure_3": figures.bars(found, {}),
        "figure_4": figures.every_accuracy(found, {}),
        "moved": moved(comparing.by_role(moves), few),
        "alike": layers(comparing.by_layer(alike), few),
        **{f"against_gain_{n}": against_gain(cells, gain, n) for n, gain in gains.items()},
    }
    if len(curves := runs[runs["training"] == "full"]):
        pictures["curves"] = validation_curves(curves)
    return pictures


def loss_against_gain(found: pd.DataFrame) -> Figure:
    """Draw how far validation loss fell against how much accuracy was gained, a mark a size and number of examples."""
    full = found[found["training"] == "full"]
    benchmarks = list(dict.fromkeys(full["benchmark"]))
    figure = Figure(figsize=(5.2 * len(benchmarks), 4.6), layout="constrained")
    panels = figure.subplots(1, len(benchmarks), squeeze=False)[0]
    known = figures.looks(found)
    for axes, benchmark in zip(panels, benchmarks, strict=True):
        for size, (colour, mark) in known.items():
            rows = full[(full["benchmark"] == benchmark) & (full["size"] == size)].sort_values("examples")
            axes.plot(rows["loss_decrease"], rows["gain"], mark, color=colour, markersize=5, markerfacecolor="white")
            axes.plot(
                rows["loss_decrease"].mean(), rows["gain"].mean(), mark, color=colour, markersize=10,
                markeredgecolor="black", zorder=4,
            )  # fmt: skip
        axes.axhline(0, color="0.5", linewidth=0.9, zorder=0)
        axes.axvline(0, color="0.5", linewidth=0.9, zorder=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set(title=benchmark, xlabel="fall of validation loss, nats a token")
    panels[0].set_ylabel("accuracy over that of the base, points")
    notes = [
        Line2D([], [], color=colour, marker=mark, linestyle="", label=size) for size, (colour, mark) in known.items()
    ]
    notes.append(_note("open: a number of examples (mean over seeds)", markerfacecolor="white"))
    notes.append(_note("filled, black edge: mean over them", markeredgecolor="black", markersize=9))
    figure.legend(handles=notes, loc="outside lower center", ncols=len(notes), frameon=False, fontsize=8)
    figure.suptitle("Fall of validation loss and gain in accuracy, full fine-tuning", fontsize=11)
    return figure


def moved(by_role: pd.DataFrame, examples: int) -> Figure:
    """Draw by module role how far weights moved, in how many directions, and whether towards the skyline."""
    rows = by_role[by_role["examples"] == examples]
    roles = [role for role in ROLES if role in set(rows["role"])]
    figure = Figure(figsize=(9.6, 8.2), layout="constrained")
    panels = figure.subplots(2, 2).ravel()
    drawn_here = (
        ("relative", f"Moved by {examples} examples", "|after − before| / |before|"),
        ("relative_skyline", "Moved by the skyline's training", "|after − before| / |before|"),
        ("stable_rank", f"Stable rank of the change, {examples} examples", "stable rank"),
        ("cosine", f"Direction: {examples} examples against skyline", "cosine of the two changes"),
    )
    known = figures.looks(by_role)
    means = rows.groupby(["size", "role"])[[name for name, *_ in drawn_here]].mean()
    for axes, (name, title, unit) in zip(panels, drawn_here, strict=True):
        for place, (size, (colour, mark)) in enumerate(known.items()):
            values = means.loc[size].reindex(roles)[name]
            axes.plot(np.arange(len(roles)) + 0.09 * (place - 2.5), values, mark, color=colour, markersize=5)
        axes.set_xticks(range(len(roles)), roles, rotation=60, ha="right", fontsize=8)
        axes.set_title(title, fontsize=9.5)
        axes.set_ylabel(unit)
        axes.spines[["top", "right"]].set_visible(False)
        if name.startswith("relative"):
            axes.set_yscale("log")
        if name == "cosine":
            axes.axhline(0, color="0.5", linewidth=0.9, zorder=0)
    for axes in panels[:2]:
        axes.set_ylim(min(each.get_ylim()[0] for each in panels[:2]), max(each.get_ylim()[1] for each in panels[:2]))
    _sizes(figure, known)
    figure.suptitle("How weights moved, by module (mean over layers and seeds)", fontsize=11)
    return figure


def layers(by_layer: pd.DataFrame, examples: int) -> Figure:
    """Draw the three CKAs layer by layer, a panel a size."""
    rows = by_layer[by_layer["examples"] == examples]
    sizes = list(dict.fromkeys(rows["size"]))
    columns = min(3, len(sizes))
    down = -(-len(sizes) // columns)
    figure = Figure(figsize=(2.8 * columns + 0.8, 2.7 * down + 0.9), layout="constrained")
    grid = figure.subplots(down, columns, squeeze=False, sharey=True)
    panels = grid.ravel()
    for axes in panels[len(sizes) :]:
        axes.set_axis_off()
    for axes, size in zip(panels, sizes, strict=False):
        part = rows[rows["size"] == size].sort_values("layer")
        for name, (_, colour, style, mark) in ALIKE.items():
            axes.plot(part["layer"], part[name], style, color=colour, marker=mark, markersize=5)
        axes.set_title(size, fontsize=10)
        axes.set_xlabel("layer")
        axes.set_xticks(part["layer"].tolist()[:: max(1, len(part) // 8)])
        axes.spines[["top", "right"]].set_visible(False)
    for row in grid:
        row[0].set_ylabel("linear CKA, debiased")
    panels[0].set_ylim(top=1.03)
    notes = [
        Line2D([], [], color=colour, linestyle=style, marker=mark, label=label)
        for label, colour, style, mark in ALIKE.values()
    ]
    figure.legend(handles=notes, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    figure.suptitle(
        f"How alike representations are, {examples} examples (residual stream behind each layer, mean over seeds)",
        fontsize=11,
    )
    return figure


def against_gain(cells: pd.DataFrame, gains: pd.DataFrame, examples: int) -> Figure:
    """Draw each measure against the gain, a mark a size; sizes that surely gain are filled."""
    of_size = cells[cells["examples"] == examples].groupby("size")[list(comparing.MEASURES)].mean()
    table = gains.set_index("size").join(of_size, how="inner")
    known = figures.looks(gains)
    figure = Figure(figsize=(14.5, 6.6), layout="constrained")
    panels = figure.subplots(2, 4).ravel()
    for axes, (name, means) in zip(panels, comparing.MEASURES.items(), strict=False):
        for size, row in table.iterrows():
            colour, mark = known[str(size)]
            axes.plot(
                row[name], row["gain"], mark, color=colour, markersize=7,
                markerfacecolor=colour if row["gains"] else "white",
            )  # fmt: skip
        rho, p = comparing.rank_correlation(*(table[each].to_numpy(dtype=float) for each in (name, "gain")))
        told = "constant" if np.isnan(rho) else f"rank correlation {rho:+.2f}, p = {p:.2g} alone".replace("-", "−")
        axes.set_title(told, fontsize=9)
        axes.set_xlabel(_wrapped(means), fontsize=8.5)
        axes.axhline(0, color="0.5", linewidth=0.9, zorder=0)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[len(comparing.MEASURES) :]:
        axes.remove()
    for axes in panels[::4]:
        axes.set_ylabel(f"gain from {examples} examples, points")
    extra = [_note("filled: gains (p < 0.05, corrected)"), _note("open: does not", markerfacecolor="white")]
    _sizes(figure, known, extra)
    figure.suptitle("What goes with the gain, size by size", fontsize=11)
    return figure


def validation_curves(runs: pd.DataFrame) -> Figure:
    """Draw validation loss step by step, a panel a size, and where each training's checkpoint was chosen."""
    sizes, counts = list(dict.fromkeys(runs["size"])), sorted(runs["examples"].unique())
    shades = mpl.colormaps["viridis"](np.linspace(0, 0.9, len(counts)))
    figure = Figure(figsize=(2.6 * len(sizes) + 0.8, 3.8), layout="constrained")
    panels = figure.subplots(1, len(sizes), squeeze=False, sharey=True)[0]
    for axes, size in zip(panels, sizes, strict=True):
        for row in runs[runs["size"] == size].to_dict("records"):
            curve = pd.read_json(io.StringIO(row["curve"]), orient="records").dropna(subset=["validation_loss"])
            colour = shades[counts.index(row["examples"])]
            axes.plot(curve["step"], curve["validation_loss"], color=colour, linewidth=0.8, alpha=0.8)
            chosen = curve[curve["step"] == row["chosen"]]
            axes.plot(chosen["step"], chosen["validation_loss"], "o", color=colour, markersize=4)
        axes.set(title=size, xlabel="step")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("validation loss, nats a token")
    notes = [Line2D([], [], color=shade, label=f"{n} examples") for shade, n in zip(shades, counts, strict=True)]
    notes.append(_note("chosen: the last within 0.1 nats of the best"))
    figure.legend(handles=notes, loc="outside lower center", ncols=len(notes), frameon=False, fontsize=8)
    figure.suptitle("Validation loss on 72 held-out examples, full fine-tuning, each seed", fontsize=11)
    return figure


def _sizes(figure: Figure, known: dict[str, tuple[str, str]], extra: Sequence[Line2D] = ()) -> None:
    notes = [
        Line2D([], [], color=colour, marker=mark, linestyle="", label=size) for size, (colour, mark) in known.items()
    ]
    figure.legend(handles=[*notes, *extra], loc="outside lower center", ncols=8, frameon=False, fontsize=8)


def _note(label: str, **look: Any) -> Line2D:
    return Line2D([], [], **{"color": "0.3", "marker": "o", "linestyle": "", "label": label, **look})


def _wrapped(text: str, width: int = 42) -> str:
    return textwrap.fill(text, width)
