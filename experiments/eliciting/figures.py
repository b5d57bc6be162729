"""Figures of elicitation: shares recovered, gains, bars, and every accuracy, sizes told apart by colour and mark.

All take tables with a row a size (as it is written, such as "7B"), benchmark, training ("none", "distilled", "full",
"lora") and number of examples, in per cent; a benchmark has a panel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#000000")
"""Okabe and Ito's palette, a colour a size, in the order of sizes."""
MARKS = "os^DvP"
TRAININGS = {
    "none": ("base", "0.75", ""),
    "full": ("full fine-tuning", "#0072b2", "//"),
    "lora": ("rank-1 LoRA", "#e69f00", ".."),
    "distilled": ("skyline", "0.25", ""),
}
_CHANCE = "#d55e00"


def looks(frame: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Each size's colour and mark, in the table's order."""
    n = len(COLOURS)
    # From the seventh size on colours come again, with other marks.
    return {size: (COLOURS[at % n], MARKS[(at + at // n) % n]) for at, size in enumerate(dict.fromkeys(frame["size"]))}


def counts(frame: pd.DataFrame) -> list[int]:
    """The numbers of examples of full fine-tuning, from the smallest."""
    return sorted(frame.loc[frame["training"] == "full", "examples"].astype(int).unique().tolist())


def shares(frame: pd.DataFrame) -> Figure:
    """Draw the recovered % against the number of examples, with intervals, rank-1 LoRA apart at the right.

    A size whose share is undefined has no line, and the title says so. Values so far off that they would flatten the
    rest stand at the edge, as triangles with their number.
    """
    benchmarks, known, numbers = list(dict.fromkeys(frame["benchmark"])), looks(frame), counts(frame)
    figure, panels = _panels(len(benchmarks), "Share of the way from base to skyline that training recovers")
    seen: set[str] = set()
    far = False
    for axes, benchmark in zip(panels, benchmarks, strict=True):
        part = frame[(frame["benchmark"] == benchmark) & frame["recovered"].notna()]
        limits = _sight(part["recovered"].to_numpy(dtype=np.float64))
        axes.axhline(0, color="0.5", linewidth=0.9, zorder=0)
        axes.axhline(100, color="0.5", linewidth=0.9, linestyle="--", zorder=0)
        for place, (size, (colour, mark)) in enumerate(known.items()):
            shift = 0.1 * (place - (len(known) - 1) / 2)
            for training, line in (("full", "-"), ("lora", "")):
                rows = part[(part["size"] == size) & (part["training"] == training)].sort_values("examples")
                at = [numbers.index(n) if training == "full" else len(numbers) + 0.4 for n in rows["examples"]]
                if at:
                    _marked(axes, np.array(at) + shift, rows, (colour, mark, line), limits)
        axes.set_xticks([*range(len(numbers)), len(numbers) + 0.4], [*map(str, numbers), "LoRA"])
        seen |= set(part["size"])
        far |= bool((~part["recovered"].between(*limits)).any())
        missing = [size for size in known if size not in set(part["size"])]
        told = f" ({', '.join(missing)}: undefined)" if missing else ""
        axes.set(ylim=limits, xlabel="training examples", title=f"{benchmark}{told}")
    panels[0].set_ylabel("recovered, % (0 base, 100 skyline)")
    drawn = {size: look for size, look in known.items() if size in seen}
    notes = [Line2D([], [], color=colour, marker=mark, label=size) for size, (colour, mark) in drawn.items()]
    notes.append(Line2D([], [], color="0.4", linewidth=1.2, label="95 % interval"))
    if far:
        notes.append(Line2D([], [], color="0.4", marker="v", linestyle="", label="out of sight, with its value"))
    figure.legend(handles=notes, loc="outside lower center", ncols=len(notes), frameon=False, fontsize=8)
    return figure


def _sight(values: NDArray[np.float64]) -> tuple[float, float]:
    """Limits that hold 0, 100 and all values but those that lie far beyond the rest."""
    quarter, three = np.quantile(values, [0.25, 0.75]) if len(values) else (0.0, 100.0)
    reach = 1.5 * max(float(three - quarter), 30.0)
    near = values[(values > quarter - reach) & (values < three + reach)]
    return min(-25.0, float(near.min(initial=0.0)) - 15), max(110.0, float(near.max(initial=100.0)) + 40)


def _marked(
    axes: Axes,
    x: NDArray[np.float64],
    rows: pd.DataFrame,
    look: tuple[str, str, str],
    limits: tuple[float, float],
) -> None:
    colour, mark, line = look
    value = rows["recovered"].to_numpy(dtype=np.float64)
    axes.plot(x, value, line, color=colour, linewidth=1.3)
    # An end that lies infinitely far off is drawn to the edge.
    low, high = (rows[end].clip(*limits) for end in ("low", "high"))
    axes.vlines(x, low, high, color=colour, linewidth=1.0, alpha=0.7)
    seen = (value >= limits[0]) & (value <= limits[1])
    axes.plot(x[seen], value[seen], mark, color=colour, markersize=5, zorder=3)
    for place, far in zip(x[~seen], value[~seen], strict=True):
        edge, points, above = (limits[0], "v", 9) if far < limits[0] else (limits[1], "^", -17)
        axes.plot(place, edge, points, color=colour, markersize=7, zorder=4, clip_on=False)
        told = f"{far:.0f}".replace("-", "−")
        axes.annotate(
            told,
            (place, edge),
            (0, above),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=colour,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
            zorder=5,
        )


def gains(frame: pd.DataFrame, loss_order: Sequence[str]) -> Figure:
    """Draw each fine-tuning's gain in points over its base, sizes in the order in which validation loss falls.

    Of the losses only that order is published, so that the x axis has places and no unit; the crosses are the means
    over the numbers of examples.
    """
    benchmarks, known = list(dict.fromkeys(frame["benchmark"])), looks(frame)
    title = "Gain against the fall of validation loss (of which only the order of sizes is published)"
    figure, panels = _panels(len(benchmarks), title)
    full = frame[frame["training"] == "full"]
    for axes, benchmark in zip(panels, benchmarks, strict=True):
        axes.axhline(0, color="0.5", linewidth=0.9, zorder=0)
        for place, size in enumerate(loss_order):
            rows = full[(full["benchmark"] == benchmark) & (full["size"] == size)].sort_values("examples")
            colour, mark = known[size]
            x = place + np.linspace(-0.25, 0.25, len(rows))
            axes.vlines(x, rows["gain_low"], rows["gain_high"], color=colour, linewidth=0.9, alpha=0.7)
            axes.plot(x, rows["gain"], mark, color=colour, markersize=4.5, markerfacecolor="white", zorder=3)
            axes.plot(
                place + 0.38, rows["gain"].mean(), "X", color=colour, markersize=9, markeredgecolor="black", zorder=4
            )
        axes.set_xticks(range(len(loss_order)), list(loss_order))
        axes.set(title=benchmark, xlabel="size, from the least fall of validation loss to the most")
    panels[0].set_ylabel("accuracy above that of the base, points")
    numbers = counts(frame)
    each = f"{numbers[0]} to {numbers[-1]} examples, from left to right, with 95 % interval"
    notes = [
        Line2D([], [], color="0.3", marker="o", markerfacecolor="white", label=each),
        Line2D(
            [], [], color="0.6", marker="X", markeredgecolor="black", markersize=9, linestyle="", label="their mean"
        ),
    ]
    figure.legend(handles=notes, loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return figure


def bars(frame: pd.DataFrame, chance: Mapping[str, float]) -> Figure:
    """Draw base, full fine-tuning on the most examples, rank-1 LoRA and skyline as bars with standard errors."""
    benchmarks, sizes, most = list(dict.fromkeys(frame["benchmark"])), list(looks(frame)), counts(frame)[-1]
    figure, panels = _panels(len(benchmarks), "Base, fine-tuned models and skyline")
    chosen = frame[(frame["training"] != "full") | (frame["examples"] == most)]
    for axes, benchmark in zip(panels, benchmarks, strict=True):
        part = chosen[chosen["benchmark"] == benchmark]
        for place, (training, (_, colour, hatch)) in enumerate(TRAININGS.items()):
            rows = part[part["training"] == training].set_index("size").loc[sizes]
            x = np.arange(len(sizes)) + 0.2 * (place - 1.5)
            axes.bar(x, rows["accuracy"], 0.2, color=colour, hatch=hatch, edgecolor="white")
            axes.errorbar(x, rows["accuracy"], rows["accuracy_se"], fmt="none", color="black", linewidth=1, capsize=2)
        _draw_chance(axes, chance.get(benchmark))
        axes.set_xticks(range(len(sizes)), sizes)
        axes.set(title=benchmark, xlabel="size")
    panels[0].set_ylabel("accuracy, %")
    names = {key: name for key, (name, _, _) in TRAININGS.items()} | {"full": f"full fine-tuning, {most} examples"}
    notes: list[Any] = [
        Patch(facecolor=colour, hatch=hatch, edgecolor="white", label=names[key])
        for key, (_, colour, hatch) in TRAININGS.items()
    ]
    notes.append(Line2D([], [], color="black", linewidth=1, label=_errors(frame)))
    notes += _chance_note(chance)
    figure.legend(handles=notes, loc="outside lower center", ncols=len(notes), frameon=False, fontsize=8)
    return figure


def every_accuracy(frame: pd.DataFrame, chance: Mapping[str, float]) -> Figure:
    """Draw all accuracies against the number of examples, a row a benchmark and a column a size."""
    benchmarks, known = list(dict.fromkeys(frame["benchmark"])), looks(frame)
    figure = Figure(figsize=(2.7 * len(known) + 0.8, 2.8 * len(benchmarks) + 0.8), layout="constrained")
    grid = figure.subplots(len(benchmarks), len(known), squeeze=False, sharey="row")
    for line, benchmark in zip(grid, benchmarks, strict=True):
        for axes, (size, look) in zip(line, known.items(), strict=True):
            _of_size(axes, frame[(frame["benchmark"] == benchmark) & (frame["size"] == size)], look, counts(frame))
            _draw_chance(axes, chance.get(benchmark))
            axes.set_title(f"{size}, {benchmark}", fontsize=9)
        line[0].set_ylabel("accuracy, %")
        line[0].set_ylim(bottom=min(0.0, line[0].get_ylim()[0]))
    for axes in grid[-1]:
        axes.set_xlabel("training examples", fontsize=9)
    notes: list[Any] = [
        Line2D([], [], color="0.25", linestyle="--", label="skyline"),
        Line2D([], [], color="0.25", linestyle=":", label="base"),
        Line2D([], [], color="0.3", marker="o", label="full fine-tuning"),
        Line2D([], [], color="0.3", marker="o", markerfacecolor="white", linestyle="", label="rank-1 LoRA"),
        Patch(color="0.85", label=_errors(frame)),
        *_chance_note(chance),
    ]
    figure.legend(handles=notes, loc="outside lower center", ncols=len(notes), frameon=False, fontsize=8)
    figure.suptitle("Every accuracy against the number of training examples", fontsize=11)
    return figure


def _of_size(axes: Axes, rows: pd.DataFrame, look: tuple[str, str], numbers: list[int]) -> None:
    colour, mark = look
    for training, style in (("none", ":"), ("distilled", "--")):
        (row,) = rows[rows["training"] == training].to_dict("records")
        mean, se = row["accuracy"], row["accuracy_se"]
        axes.axhline(mean, color="0.25", linestyle=style, linewidth=1.2)
        axes.axhspan(mean - se, mean + se, color="0.85", zorder=0, linewidth=0)
    for training, style, face in (("full", "-", colour), ("lora", "none", "white")):
        part = rows[rows["training"] == training].sort_values("examples")
        x = [numbers.index(n) if training == "full" else len(numbers) + 0.2 for n in part["examples"]]
        drawn = {"marker": mark, "markersize": 5, "markerfacecolor": face, "linestyle": style, "linewidth": 1.3}
        axes.errorbar(x, part["accuracy"], part["accuracy_se"], color=colour, capsize=2, **drawn)
    labels = [*map(str, numbers), "LoRA"]
    axes.set_xticks([*range(len(numbers)), len(numbers) + 0.2], labels, rotation=60, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _errors(frame: pd.DataFrame) -> str:
    """What the standard errors are over: of a base or skyline that answered once, greedily, over items."""
    ends = frame[frame["training"].isin(["none", "distilled"])]
    if "runs" in ends and (ends["runs"] == 1).all():
        return "± standard error (base and skyline over items, trained over seeds)"
    return "± standard error over seeds"


def _draw_chance(axes: Axes, chance: float | None) -> None:
    if chance:
        axes.axhline(chance, color=_CHANCE, linestyle="-.", linewidth=1.0)


def _chance_note(chance: Mapping[str, float]) -> list[Line2D]:
    if not any(chance.values()):
        return []
    told = ", ".join(f"{value:.0f} %" for value in sorted(set(chance.values())) if value)
    return [Line2D([], [], color=_CHANCE, linestyle="-.", linewidth=1, label=f"chance ({told})")]


def _panels(n: int, title: str) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(5.4 * n, 4.6), layout="constrained")
    panels: list[Axes] = figure.subplots(1, n, squeeze=False).ravel().tolist()
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=11)
    return figure, panels
