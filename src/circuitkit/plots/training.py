"""A training's curves: losses against step, the checkpoint that was chosen and why, and GRPO's reward."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from circuitkit.plots.figures import NewFigure, explain, new_axes

_TRAINING, _VALIDATION, _CHOSEN, _MARGIN = "#998ec3", "#b35806", "#542788", "#fee0b6"
_FEW = 40
"""So many points of a curve, or fewer, are marked one by one."""


def training_curves(
    curve: pd.DataFrame,
    *,
    chosen: int | None = None,
    rule: str = "",
    margin: float | None = None,
    title: str = "",
    loss_name: str = "loss, nats a token",
    axes: Axes | None = None,
) -> Axes:
    """Draw training and validation loss against step, the chosen checkpoint, and rewards below where there are any.

    `curve` has a row a logged step: `step`, and of `epoch`, `loss`, `validation_loss`, `reward` and `validation_reward`
    those that were measured, NaN at steps where one was not. `chosen` is the step of the checkpoint that `rule` chose;
    with a `margin`, in nats, the band shows which checkpoints it may choose from. Gives the losses' axes; `.figure` has
    the rewards' too. On axes that are given, losses alone are drawn.

    Raises:
        ValueError: the curve has no column of steps.

    >>> import pandas as pd
    >>> curve = pd.DataFrame({"step": [10, 20, 30], "loss": [2.0, 1.0, 0.5], "validation_loss": [1.9, 1.2, 1.25]})
    >>> training_curves(curve, chosen=30, rule="last within", margin=0.1).get_xlabel()
    'step'
    """
    if "step" not in curve:
        raise ValueError("a curve has a column named step")
    rewards = [name for name in ("reward", "validation_reward") if _measured(curve, name)]
    alone = axes is None
    below: Axes | None = None
    if axes is not None:
        drawn_on = axes
    elif rewards:
        figure = NewFigure(7.0, 6.2)
        drawn_on, below = figure.subplots(2, 1, sharex=True, height_ratios=(1.2, 1))
    else:
        drawn_on = new_axes(7.0, 4.4)
    notes = _losses(drawn_on, curve, chosen, margin)
    drawn_on.set_title(title, fontsize=10)
    drawn_on.set_ylabel(loss_name)
    if chosen is not None:
        by = f" by the rule “{rule}”" if rule else ""
        for each in filter(None, (drawn_on, below)):
            mark = each.axvline(chosen, color=_CHOSEN, linestyle="--", linewidth=1.2, zorder=1)
        mark.set_label(f"chosen{by}: step {chosen}")
        notes.append(mark)
    if below is not None:
        _rewards(below, curve, rewards)
    lowest = drawn_on if below is None else below
    lowest.set_xlabel(_steps(curve))
    for each in filter(None, (drawn_on, below)):
        each.xaxis.set_major_locator(MaxNLocator(integer=True))
        each.spines[["top", "right"]].set_visible(False)
    explain(drawn_on, notes, alone=alone)
    return drawn_on


def _measured(curve: pd.DataFrame, name: str) -> bool:
    return name in curve and bool(curve[name].notna().any())


def _losses(axes: Axes, curve: pd.DataFrame, chosen: int | None, margin: float | None) -> list[Any]:
    notes: list[Any] = []
    if _measured(curve, "loss"):
        notes.append(_line(axes, curve, "loss", _TRAINING, ".", "training loss"))
    if not _measured(curve, "validation_loss"):
        return notes
    notes.append(_line(axes, curve, "validation_loss", _VALIDATION, "o", "validation loss"))
    validated = curve.dropna(subset=["validation_loss"])
    best = float(validated["validation_loss"].min())
    if margin is not None:
        notes.append(
            axes.axhspan(best, best + margin, color=_MARGIN, zorder=0, label=f"within {margin:g} nats of the best")
        )
    at = validated[validated["step"] == chosen]
    axes.plot(at["step"], at["validation_loss"], "o", color="none", markeredgecolor=_CHOSEN, markersize=11, zorder=4)
    return notes


def _rewards(axes: Axes, curve: pd.DataFrame, rewards: list[str]) -> None:
    looks = {
        "reward": (_TRAINING, ".", "reward in training"),
        "validation_reward": (_VALIDATION, "o", "validation reward"),
    }
    drawn = [_line(axes, curve, name, *looks[name]) for name in rewards]
    axes.set_ylabel("mean reward")
    axes.legend(handles=drawn, fontsize=8, frameon=False)


def _line(axes: Axes, curve: pd.DataFrame, name: str, colour: str, mark: str, label: str) -> Any:
    rows = curve.dropna(subset=[name])
    # Steps that were logged often are a line; a mark each would hide it.
    marked = mark if len(rows) <= _FEW else ""
    (line,) = axes.plot(rows["step"], rows[name], marker=marked, color=colour, linewidth=1.5, markersize=5, label=label)
    return line


def _steps(curve: pd.DataFrame) -> str:
    if not _measured(curve, "epoch"):
        return "step"
    last = curve.dropna(subset=["epoch"]).iloc[-1]
    if not last["epoch"] > 0 or not last["step"] > 0:
        return "step"
    return f"step ({last['step'] / last['epoch']:.3g} steps an epoch, {last['epoch']:.3g} epochs)"
