"""Sets of heads as bars, each beside the random sets that match it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes

from circuitkit.plots.effects import bars
from circuitkit.plots.study import title_of, unit_of

if TYPE_CHECKING:
    from circuitkit.ablation.joint import Joint


def joint_effects(joint: Joint, *, axes: Axes | None = None) -> Axes:
    """Draw what ablating each set of heads costs, with its interval, beside its random sets where it has some.

    >>> sets = {"first": [(0, 0)], "both": [(0, 0), (0, 1)]}
    >>> model = ck.load("deductor-5k")
    >>> joint_effects(ck.ablation.sets(model, ["Every wumpus is a dumpus."], sets, progress=False)).get_xlabel()
    'set'
    """
    frame, result = joint.frame, joint.result
    (axis,) = result.axes
    beside = any(control is not None for control in joint.controls)
    mean, low, high = (frame[f"control_{name}"].to_numpy(dtype=np.float64) for name in ("mean", "low", "high"))
    return bars(
        result.effects,
        labels=result.labels[axis],
        title=title_of(result),
        unit=unit_of(result, "effect"),
        name=axis,
        interval=(frame["low"].to_numpy(), frame["high"].to_numpy()) if bool(frame["low"].notna().all()) else None,
        controls=mean if beside else None,
        control_interval=(low, high) if beside else None,
        axes=axes,
    )
