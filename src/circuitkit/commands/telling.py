"""What commands say of a result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from circuitkit.results import Result

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = ("effect", "low", "high", "normalised", "p_corrected", "significant")


def tell(result: Result, out: Path) -> None:
    """Print the strongest cells as a table, and where the rest is."""
    shown = list(result.axes) + [f"{axis}_label" for axis in result.axes if axis in result.labels]
    # What random sets do, or the other heads of the layer, where there are any.
    control = [name for name in ("control_mean", "control_p") if name in result.frame]
    shown += [name for name in control if result.frame[name].notna().any()]
    tell_study(result, result.top(10)[[*shown, *_COLUMNS]], [result], out)


def tell_study(measured: Result, table: pd.DataFrame, tested: Sequence[Result], out: Path) -> None:
    """Print what was measured, rows of a study's table, how many cells survive correction, and where the rest is."""
    baseline = measured.baseline
    corrupt = "" if baseline.corrupt_mean is None else f", corrupt {baseline.corrupt_mean:.3f}"
    examples = f"{len(baseline.clean)} example{'s' * (len(baseline.clean) != 1)}"
    print(f"{measured.title}: {measured.metric}, clean {baseline.clean_mean:.3f}{corrupt}, {examples}")
    print(table.to_string(index=False, float_format="{:.3f}".format))
    if reason := measured.frame.attrs.get("statistics"):
        print(f"{reason}; all is in {out}/")
        return
    survive = sum(int(result.frame["significant"].sum()) for result in tested)
    print(f"{survive} of {sum(len(result.frame) for result in tested)} cells survive correction; all are in {out}/")
