"""How much of a behaviour circuits of growing size restore, beside random circuits of the same sizes."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from circuitkit.plots.figures import explain, new_axes

_COLOURS = ("#b35806", "#542788", "#1b7837", "#2166ac", "#8c510a")
_MARKS = ("o", "s", "^", "D", "v")
_CONTROL = "0.55"
_NEEDED = ("series", "edges", "faithfulness")


def faithfulness_curve(
    curve: pd.DataFrame,
    *,
    title: str,
    n_edges: int | None = None,
    controls: tuple[str, ...] = ("random",),
    unit: str = "normalised faithfulness",
    axes: Axes | None = None,
) -> Axes:
    """Draw faithfulness against the number of edges, on a logarithmic axis, a line a series of circuits.

    `curve` has a row a circuit: `series` (which line it is of), `edges` (in the circuit as it was run, after pruning),
    `faithfulness` (0: as the corrupt run, 1: as the clean one), and, where there are intervals, their ends `low` and
    `high`. Series named in `controls` are drawn grey and dashed. `n_edges`, of the whole graph, is marked. A circuit
    without edges stands left of those that have some.

    Raises:
        ValueError: a column is missing.

    >>> import pandas as pd
    >>> curve = pd.DataFrame({"series": "eap-ig", "edges": [10, 100], "faithfulness": [0.4, 0.9]})
    >>> faithfulness_curve(curve, title="IOI").get_xlabel()
    'edges in the circuit'
    """
    if missing := [name for name in _NEEDED if name not in curve]:
        raise ValueError(f"a curve of faithfulness needs columns {', '.join(missing)}")
    alone = axes is None
    axes = axes or new_axes(7.0, 4.6)
    notes: list[Artist] = []
    names = list(dict.fromkeys(curve["series"]))
    shown = [name for name in names if name not in controls]
    for name in sorted(names, key=lambda each: each not in controls):
        rows = curve[curve["series"] == name].sort_values("edges", kind="stable")
        control = name in controls
        place = 0 if control else shown.index(name)
        look = (_CONTROL, "x", "--") if control else (_COLOURS[place % 5], _MARKS[place % 5], "-")
        notes.append(_line(axes, rows, str(name), *look))
    axes.axhline(1.0, color="0.3", linewidth=0.8, linestyle=":", zorder=0)
    axes.axhline(0.0, color="0.3", linewidth=0.8, linestyle=":", zorder=0)
    axes.set_xscale("symlog", linthresh=max(1.0, _smallest(curve)), linscale=0.4)
    axes.set_xlim(left=0.0)
    axes.text(0.995, 1.0, "clean run", transform=axes.get_yaxis_transform(), ha="right", va="bottom", fontsize=7)
    axes.text(0.995, 0.0, "corrupt run", transform=axes.get_yaxis_transform(), ha="right", va="bottom", fontsize=7)
    if n_edges is not None:
        axes.axvline(n_edges, color="0.3", linewidth=0.8, zorder=0)
        notes.append(Line2D([], [], color="0.3", linewidth=0.8, label=f"whole graph: {n_edges:,} edges"))
    axes.set_title(title, fontsize=10)
    axes.set(xlabel="edges in the circuit", ylabel=unit)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.spines[["top", "right"]].set_visible(False)
    explain(axes, [*notes[::-1]] if n_edges is None else [*notes[-2::-1], notes[-1]], alone=alone)
    return axes


def _line(axes: Axes, rows: pd.DataFrame, name: str, colour: str, mark: str, dashes: str) -> Artist:
    edges, values = (rows[column].to_numpy(dtype=np.float64) for column in ("edges", "faithfulness"))
    label = name
    if {"low", "high"} <= set(rows) and rows[["low", "high"]].notna().any(axis=None):
        low, high = (rows[column].to_numpy(dtype=np.float64) for column in ("low", "high"))
        axes.fill_between(edges, low, high, color=colour, alpha=0.18, linewidth=0, zorder=1)
        label = f"{name} (band: 95% interval)"
    (drawn,) = axes.plot(
        edges, values, dashes, marker=mark, markersize=4.5, color=colour, linewidth=1.6, label=label, zorder=2
    )
    return drawn


def _smallest(curve: pd.DataFrame) -> float:
    some = curve.loc[curve["edges"] > 0, "edges"]
    return float(some.min()) if len(some) else 1.0
