"""What a study leaves behind in a folder: its results, table, figure and provenance, each whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuitkit import plots
from circuitkit.records import whole_file
from circuitkit.results import Result

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


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
