"""A comparison in one file, and out of it again, equal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from circuitkit import saving
from circuitkit.sfn.differences.bimodality import Shapes
from circuitkit.sfn.differences.relative_change import Histogram

if TYPE_CHECKING:
    from circuitkit.sfn.differences.outcome import Delta

_KIND = "delta"
_TABLES = ("frame", "heads", "trajectory")
_SHAPES = tuple(Shapes.__dataclass_fields__)


def save(delta: Delta, path: str | Path) -> Path:
    """Write a comparison to one safetensors file, whole or not at all."""
    tensors: dict[str, Tensor] = {}
    told: dict[str, Any] = {"provenance": dict(delta.provenance), "histograms": None}
    for table in _TABLES:
        frame: pd.DataFrame = getattr(delta, table)
        numbers = {name: frame[name] for name in frame.columns if pd.api.types.is_numeric_dtype(frame[name])}
        tensors |= {f"{table}.{name}": torch.from_numpy(column.to_numpy(copy=True)) for name, column in numbers.items()}
        words = {name: frame[name].tolist() for name in frame.columns if name not in numbers}
        told[table] = {"columns": list(frame.columns), "words": words}
    if delta.histograms:
        told["histograms"] = {
            "formula": delta.histograms[0].formula,
            "zeros": [each.zeros for each in delta.histograms],
            "beyond": [each.beyond for each in delta.histograms],
        }
        tensors["histograms"] = torch.from_numpy(np.stack([each.counts for each in delta.histograms]))
    if delta.shapes:
        arrays = {name: np.stack([np.asarray(getattr(each, name)) for each in delta.shapes]) for name in _SHAPES}
        tensors |= {f"shapes.{name}": torch.from_numpy(array) for name, array in arrays.items()}
    return saving.save(path, _KIND, tensors, told)


def load(path: str | Path) -> dict[str, Any]:
    """The fields of a comparison that `save` wrote."""
    tensors, told = saving.load(path, _KIND)
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    fields: dict[str, Any] = {"provenance": told["provenance"], "histograms": (), "shapes": ()}
    for table in _TABLES:
        words = told[table]["words"]
        columns = {name: words.get(name, arrays.get(f"{table}.{name}")) for name in told[table]["columns"]}
        fields[table] = pd.DataFrame(columns)
    if (kept := told["histograms"]) is not None:
        rows = zip(arrays["histograms"], kept["zeros"], kept["beyond"], strict=True)
        fields["histograms"] = tuple(Histogram(counts, kept["formula"], *left_out) for counts, *left_out in rows)
    if "shapes.reach" in arrays:
        kept_shapes = zip(*(arrays[f"shapes.{name}"] for name in _SHAPES), strict=True)
        fields["shapes"] = tuple(_shapes(dict(zip(_SHAPES, row, strict=True))) for row in kept_shapes)
    return fields


def _shapes(row: dict[str, Any]) -> Shapes:
    return Shapes(**row | {"reach": float(row["reach"])})
