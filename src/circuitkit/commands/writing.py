"""What the study commands leave behind, and what they say of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from circuitkit import plots
from circuitkit.records import whole_file
from circuitkit.results import Result

_COLUMNS = ("effect", "low", "high", "normalised", "p_corrected", "significant")


def write_result(result: Result, out: Path, name: str) -> None:
    """Write a result, its table, its figure and its provenance into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    result.save(out / f"{name}.safetensors")
    result.to_csv(out / f"{name}.csv")
    if len(result.axes) <= 2:
        plots.save(result.plot(), out / f"{name}.png")
    write_json(out / "provenance.json", result.provenance)


def write_json(path: Path, told: Mapping[str, Any]) -> None:
    """Write JSON, whole or not at all."""
    with whole_file(path) as beside:
        beside.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def tell(result: Result, out: Path) -> None:
    """Print the strongest cells as a table, and where the rest is."""
    baseline = result.baseline
    corrupt = "" if baseline.corrupt_mean is None else f", corrupt {baseline.corrupt_mean:.3f}"
    print(f"{result.title}: {result.metric}, clean {baseline.clean_mean:.3f}{corrupt}, {len(baseline.clean)} examples")
    shown = list(result.axes) + [f"{axis}_label" for axis in result.axes if axis in result.labels]
    print(result.top(10)[[*shown, *_COLUMNS]].to_string(index=False, float_format="{:.3f}".format))
    print(
        f"{int(result.frame['significant'].sum())} of {len(result.frame)} cells survive correction; all are in {out}/"
    )
