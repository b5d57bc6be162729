"""How far modules have moved, against the step of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from circuitkit.plots.figures import explain, new_axes

_LOOKS = (
    *(("#000000", "o"), ("#e69f00", "s"), ("#56b4e9", "^"), ("#009e73", "v"), ("#0072b2", "D")),
    *(("#d55e00", "P"), ("#cc79a7", "X"), ("0.55", "*"), ("#999933", "<"), ("#882255", ">")),
)
"""Okabe and Ito's colours, and marks, so that lines are told apart without colour."""

_ROOM = 80
"""Letters that fit under the axis side by side."""


def module_trajectory(
    curves: Mapping[str, Float[np.ndarray, " step"]],
    steps: Float[np.ndarray, " step"],
    *,
    title: str,
    unit: str,
    step_name: str = "step",
    names: Sequence[str] = (),
    axes: Axes | None = None,
) -> Axes:
    """Draw a line a module, from nothing at the start through each checkpoint.

    Checkpoints are written beside their steps where `names` has them and they are short.

    Raises ValueError where a curve has not one value a step, or there are more than ten.

    >>> axes = module_trajectory({"o_proj": np.array([0.1, 0.2])}, np.array([10.0, 20.0]), title="Moved", unit="of A")
    >>> axes.get_xlabel(), axes.get_ylabel()
    ('step', 'of A')
    """
    if len(curves) > len(_LOOKS):
        raise ValueError(f"up to {len(_LOOKS)} modules can be told apart as lines; got {len(curves)}: choose some")
    alone = axes is None
    axes = axes or new_axes(7.0, 4.4)
    lines = []
    for (name, values), (colour, mark) in zip(curves.items(), _LOOKS, strict=False):
        if len(values) != len(steps):
            raise ValueError(f"{name} has {len(values)} values for {len(steps)} steps")
        lines += axes.plot(steps, values, color=colour, marker=mark, markersize=4.5, linewidth=1.4, label=name)
    axes.set_ylim(bottom=min(0.0, *(float(np.nanmin(values, initial=0.0)) for values in curves.values())))
    axes.set_title(title, fontsize=10)
    axes.set(xlabel=step_name, ylabel=unit)
    shown = [f"{step:g}" for step in steps]
    if names and max(map(len, names)) * len(names) <= _ROOM:
        shown = [f"{step}\n{name}" for step, name in zip(shown, names, strict=True)]
    axes.set_xticks(steps, shown)
    axes.spines[["top", "right"]].set_visible(False)
    explain(axes, lines, alone=alone)
    return axes
