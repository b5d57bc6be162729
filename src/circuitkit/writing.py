"""What a study leaves behind in a folder: its results, table, figure and provenance, each whole or not at all."""

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

PROMPTS = "prompts.json"
"""The file of a folder that holds what the model was asked."""


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


def write_prompts(out: Path, data_sha256: str, clean: Sequence[str], corrupt: Sequence[str] | None = None) -> None:
    """Write the prompts of results whose provenance has a hash of data, so that a report can show each example's."""
    write_json(out / PROMPTS, {"data_sha256": data_sha256, "clean": list(clean), "corrupt": corrupt and list(corrupt)})


def read_prompts(folder: Path, data_sha256: str) -> dict[str, Sequence[str] | None] | None:
    """What `write_prompts` wrote in a folder of the data with a hash, clean and corrupt; None where it has no such.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_prompts(Path(folder), "af3", ["2 + 2 ="], ["2 + 3 ="])
    ...     read_prompts(Path(folder), "af3"), read_prompts(Path(folder), "other")
    ({'clean': ['2 + 2 ='], 'corrupt': ['2 + 3 =']}, None)
    """
    path = folder / PROMPTS
    told = json.loads(path.read_bytes()) if path.is_file() else {}
    if told.get("data_sha256") != data_sha256:
        return None
    return {"clean": told["clean"], "corrupt": told["corrupt"]}


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
