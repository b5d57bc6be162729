"""What commands leave behind, and what they say of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuitkit import plots
from circuitkit.records import whole_file
from circuitkit.results import Result

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_COLUMNS = ("effect", "low", "high", "normalised", "p_corrected", "significant")


def write_result(result: Result, out: Path, name: str) -> None:
    """Write a result, its table, its figure and its provenance into a folder."""
    write_study(out, name, {name: result}, result.frame, result.plot())


def write_study(out: Path, name: str, results: Mapping[str, Result], table: pd.DataFrame, figure: Axes) -> None:
    """Write a study that has more to tell than one result: its results by name, a table, a figure, provenance."""
    out.mkdir(parents=True, exist_ok=True)
    for called, result in results.items():
        result.save(out / f"{called}.safetensors")
    write_table(out / f"{name}.csv", table)
    plots.save(figure, out / f"{name}.png")
    write_json(out / "provenance.json", next(iter(results.values())).provenance)


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV, whole or not at all."""
    with whole_file(path) as beside:
        table.to_csv(beside, index=False)


def write_json(path: Path, told: Mapping[str, Any]) -> None:
    """Write JSON, whole or not at all."""
    write_text(path, json.dumps(told, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text, whole or not at all."""
    with whole_file(path) as beside:
        beside.write_text(text, encoding="utf-8")


def tell(result: Result, out: Path) -> None:
    """Print the strongest cells as a table, and where the rest is."""
    shown = list(result.axes) + [f"{axis}_label" for axis in result.axes if axis in result.labels]
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
