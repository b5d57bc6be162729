"""How faithful circuits of growing size are, beside random circuits and circuits of the largest magnitudes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from circuitkit.plots.figures import explain, new_axes

if TYPE_CHECKING:
    from circuitkit.circuits.evaluating.curve_outcome import Curve

_FOUND, _RANDOM, _MAGNITUDE = "#b35806", "#998ec3", "#1b7837"


def circuit_curve(curve: Curve, *, axes: Axes | None = None) -> Axes:
    """Draw a curve's faithfulness against the share of edges asked for, on a logarithmic axis, with its intervals.

    Under each size stand the edges that pruning left. The dashed line is the mean of ratios, without its interval.

    >>> model = ck.load("deductor-5k")
    >>> pairs = ck.tasks.deductions.pairs(model.tokenizer, n=4)
    >>> graph = ck.circuits.attribute(model, pairs, method="eap", progress=False)
    >>> found = ck.circuits.curve(model, graph, pairs, sizes=(0.1, 1.0), controls=2, progress=False)
    >>> circuit_curve(found).get_xscale()
    'log'
    """
    alone = axes is None
    axes = axes or new_axes(7.6, 4.9)
    parts = dict(iter(curve.frame.groupby("circuit", sort=False)))
    drawn = _found(axes, parts["found"])
    if "random" in parts:
        drawn += _banded(axes, parts["random"], _RANDOM, "s", _random_name(curve), "middle 95% of them")
    if "magnitude" in parts:
        name = "edges of largest magnitude (|difference| / |stream| · |weights|)"
        drawn += _banded(axes, parts["magnitude"], _MAGNITUDE, "^", name, None)
    for level in (0.0, 1.0):
        axes.axhline(level, color="0.3", linewidth=0.8, linestyle="-" if level == 0 else ":")
    axes.set_xscale("log")
    axes.set_xticks(
        list(curve.fractions),
        [f"{100 * share:g}\n({size:,})" for share, size in zip(curve.fractions, curve.sizes, strict=True)],
        fontsize=8,
    )
    axes.minorticks_off()
    axes.set_title(_title(curve), fontsize=10)
    axes.set(xlabel="edges asked for, % of all (left after pruning)", ylabel=_name(curve))
    axes.spines[["top", "right"]].set_visible(False)
    explain(axes, drawn, alone=alone)
    return axes


def _found(axes: Axes, part: pd.DataFrame) -> list[Artist]:
    drawn = _banded(axes, part, _FOUND, "o", "circuit, ratio of means", "95% interval over examples")
    (ratios,) = axes.plot(
        part["fraction"], part["mean_of_ratios"], "--", color=_FOUND, linewidth=1.2, label="circuit, mean of ratios"
    )
    return [*drawn, ratios]


def _banded(axes: Axes, part: pd.DataFrame, colour: str, mark: str, name: str, interval: str | None) -> list[Artist]:
    at, low, high = (part[column].to_numpy(dtype=np.float64) for column in ("fraction", "low", "high"))
    (line,) = axes.plot(at, part["faithfulness"], f"{mark}-", color=colour, markersize=4, label=name)
    if interval is None or not np.isfinite([low, high]).any():
        return [line]
    band = axes.fill_between(at, low, high, color=colour, alpha=0.25, linewidth=0)
    line.set_label(f"{name} (band: {interval})")
    return [line] if band is not None else []


def _random_name(curve: Curve) -> str:
    left = "left after pruning" if curve.settings["match"] == "actual" else "asked for"
    return f"mean of {len(curve.random)} random circuits, as many edges {left}"


def _title(curve: Curve) -> str:
    settings = curve.settings
    by = "by sign" if settings["by"] == "signed" else "by magnitude"
    grown = ", grown from the logits" if settings["select"] == "greedy" else ""
    areas = f"CPR {curve.cpr:.3f}, CMD {curve.cmd:.3f}"
    n = len(curve.clean)
    return f"{settings['title']}\n{areas}; edges taken {by}{grown}; {n} example{'s' * (n != 1)}"


def _name(curve: Curve) -> str:
    other = {"patch": "corrupt", "mean": "the mean", "zero": "zero"}[curve.settings["ablation"]]
    metric = str(curve.settings["metric"]).replace("_", " ")
    return f"faithfulness: share of {metric}\nkept, all other edges {other}"
