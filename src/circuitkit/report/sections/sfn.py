"""How the modules of two checkpoints differ: a map by layer and module, and each module's histogram with its null."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
import pandas as pd

from circuitkit.report import sentences, stills
from circuitkit.report.contents import Contents, File
from circuitkit.report.section import Section, Still
from circuitkit.report.sections.tables import thinned
from circuitkit.sfn.differences.bimodality import NEAR_BINS, Shapes
from circuitkit.sfn.differences.joining import pivoted
from circuitkit.sfn.differences.outcome import Delta

MEASURES: Mapping[str, str] = {
    "relative": "norm of the change / norm before",
    "combined": "norm of the change, weight and bias",
    "rms": "norm of the change / √elements",
    "cosine": "cosine of before and after",
    "cosine_with_a": "cosine of the change and before",
    "unchanged": "share of weights that did not change",
    "stable_rank": "stable rank of the change",
    "depth": "hollow of the histogram at zero, 0 to 1",
}
"""What a map can show, with its unit."""

OF_HEADS = ("relative", "norm", "rms", "cosine", "cosine_with_a")

MOST_BINS = 60_000
"""Of all histograms of a section: some 400 KB."""

_OUTSIDE = "outside"


class Board(TypedDict):
    """A map: its columns, its rows (layers, the lowest first), and by measure the values, a list for each row.

    `humps` are the cells, row and column, in which a weight has two humps that no null makes.
    """

    name: str
    column: str
    columns: Sequence[str]
    rows: Sequence[str]
    values: Mapping[str, Any]
    humps: list[tuple[int, int]]


class Compared(TypedDict):
    """A checkpoint that is held against A; of how many weights it is known what explains their histogram."""

    name: str
    boards: list[Board]
    judged: int
    bimodal: int


class Shape(TypedDict):
    """A module's histogram: shares of its weights in each bin, and those of the two nulls where they were drawn.

    It is of the last checkpoint. `wide` is over −1 to 1; `near` over −reach to reach, of a sample.
    """

    module: str
    layer: str
    wide: Any
    null: Mapping[str, Any] | None
    reach: float
    near: Any
    near_null: Mapping[str, Any] | None
    beyond: float
    zeros: float
    verdict: str | None
    because: str | None
    elements: int


class DeltaData(TypedDict):
    """What the front end's view of histograms draws (`frontend/src/views/histogram.ts`)."""

    a: str
    measures: Mapping[str, str]
    checkpoints: list[Compared]
    formula: str
    shapes: list[Shape]


def sections(contents: Contents) -> Iterator[Section]:
    """A section for each comparison of checkpoints, of a folder and those in it."""
    for part in contents.walk():
        for file in part.of_kind("delta"):
            yield _section(file.value, file)
            part.used(file.path)
            # The command's own tables and pictures are this result's.
            if file.stem == "delta":
                part.used("heatmap.png", "histograms.png", "heads.png", "heads.csv", "trajectory.png", "modules.csv")
            # A study of several draws each under its name.
            drawn = contents.of_kind("figure")
            contents.used(*(each.path for each in drawn if each.stem.startswith(f"delta {file.stem}, ")))


def _section(delta: Delta, file: File) -> Section:
    data, notes = data_of(delta)
    table, cut = thinned(delta.frame, f"{file.path.name} (.frame)")
    shapes = ", and click a cell for the histogram of its weights' changes beside its null" if data["shapes"] else ""
    return Section(
        file.stem,
        "How far each module moved" + ("" if file.stem == "delta" else f": {file.path.stem}"),
        f"{_checkpoints(delta)} against {delta.a}, layer by layer and module by module. Choose the measure above the "
        f"map; point at a cell for its number{shapes}. There is one pair of checkpoints, so that the numbers have no "
        "interval.",
        view="histogram",
        data=dict(data),
        stills=_stills(delta, file),
        table=table,
        notes=(*notes, *cut),
        says=(*sentences.of(delta), *_verdicts(delta)),
    )


def data_of(delta: Delta) -> tuple[DeltaData, list[str]]:
    """What the view draws of a comparison, and notes of what was thinned."""
    shapes, notes = _shapes(delta)
    if not delta.histograms:
        notes.append("No histogram was asked for, so there is none to show.")
    elif not delta.shapes:
        notes.append("Modes were not asked for, so histograms have no null beside them.")
    data: DeltaData = {
        "a": delta.a,
        "measures": {
            name: unit for name, unit in MEASURES.items() if name in delta.frame and delta.frame[name].notna().any()
        },
        "checkpoints": [_compared(delta, name) for name in delta.checkpoints],
        "formula": delta.histograms[0].formula if delta.histograms else "paper",
        "shapes": shapes,
    }
    if len(delta.checkpoints) > 1 and shapes:
        notes.append(f"Histograms are those of {delta.checkpoints[-1]}; Delta.histogram has those of the others.")
    return data, notes


def _compared(delta: Delta, checkpoint: str) -> Compared:
    rows = delta.frame[delta.frame["checkpoint"] == checkpoint]
    verdicts: list[str] = list(rows["verdict"].dropna()) if "verdict" in rows else []
    return {
        "name": checkpoint,
        "boards": list(_boards(delta, checkpoint)),
        "judged": len(verdicts),
        "bimodal": sum(each == "bimodal" for each in verdicts),
    }


def _boards(delta: Delta, checkpoint: str) -> Iterator[Board]:
    rows = delta.frame[delta.frame["checkpoint"] == checkpoint]
    modules = list(delta.by_module(checkpoint)["module"])
    tables = {name: pivoted(rows, name, modules) for name in MEASURES if name in rows and rows[name].notna().any()}
    first = next(iter(tables.values()), None)
    if first is not None:
        yield {
            "name": "modules",
            "column": "module",
            "columns": modules,
            "rows": [_layer(each) for each in first.index],
            "values": {name: table.to_numpy(dtype=float) for name, table in tables.items()},
            "humps": _humps(rows, list(first.index), modules),
        }
    heads = delta.heads[delta.heads["checkpoint"] == checkpoint] if len(delta.heads) else delta.heads
    for module, part in heads.groupby("module", sort=False) if len(heads) else ():
        named = {name: part.pivot(index="layer", columns="head", values=name) for name in OF_HEADS if name in part}
        table = next(iter(named.values()))
        yield {
            "name": f"heads of {module}",
            "column": "head",
            "columns": [str(each) for each in table.columns],
            "rows": [_layer(each) for each in table.index],
            "values": {name: each.to_numpy(dtype=float) for name, each in named.items()},
            "humps": [],
        }


def _humps(rows: pd.DataFrame, layers: Sequence[Any], modules: Sequence[str]) -> list[tuple[int, int]]:
    """The cells of a map in which some weight has two humps of its own."""
    if "verdict" not in rows:
        return []
    two = rows[rows["verdict"] == "bimodal"]
    cells = [(int(layer), str(module)) for layer, module in zip(two["layer"], two["module"], strict=True)]
    places = {int(layer): row for row, layer in enumerate(layers)}
    return sorted({(places[layer], modules.index(module)) for layer, module in cells})


def _shapes(delta: Delta) -> tuple[list[Shape], list[str]]:
    """The histograms of the last checkpoint's modules, of as many layers as there is room for."""
    if not delta.histograms:
        return [], []
    rows = delta.frame[delta.frame["checkpoint"] == delta.checkpoints[-1]]
    groups = [
        (int(layer), str(module), part)
        for layer, parts in rows.groupby(rows["layer"].astype(int), sort=False)
        for module, part in parts.groupby("module", sort=False)
    ]
    bins = len(delta.histograms[0].counts)
    each = bins * (3 if delta.shapes else 1) + (3 * NEAR_BINS if delta.shapes else 0)
    most = max(1, MOST_BINS // each)
    notes = []
    if len(groups) > most:
        layers = sorted({layer for layer, _, _ in groups})
        wanted = max(1, most * len(layers) // len(groups))
        kept = {layers[i] for i in np.linspace(0, len(layers) - 1, wanted).round().astype(int)}
        groups = [group for group in groups if group[0] in kept][:most]
        notes.append(
            f"Histograms are in the page for {len(kept)} of {len(layers)} layers, evenly spaced; the others' are in "
            "the result's file."
        )
    return [_shape(delta, module, layer, part) for layer, module, part in groups], notes


def _shape(delta: Delta, module: str, layer: int, rows: pd.DataFrame) -> Shape:
    found = delta.histogram(module, layer)
    total = max(1, int(found.counts.sum()) + found.zeros + found.beyond)
    alone: Shapes | None = delta.shapes[int(rows.index[0])] if delta.shapes and len(rows) == 1 else None
    first = rows.iloc[0]
    told = len(rows) == 1 and "verdict" in rows
    return {
        "module": module,
        "layer": _layer(layer),
        "wide": found.counts / total,
        "null": None if alone is None else {"changes shuffled": alone.shuffled, "rounded noise": alone.rounding},
        "reach": 0.0 if alone is None else alone.reach,
        "near": None if alone is None else alone.near,
        "near_null": None
        if alone is None
        else {"changes shuffled": alone.near_shuffled, "rounded noise": alone.near_rounding},
        "beyond": found.beyond / total,
        "zeros": found.zeros / total,
        "verdict": str(first["verdict"]) if told else None,
        "because": str(first["because"]) if told else None,
        "elements": int(rows["elements"].sum()),
    }


def _layer(layer: Any) -> str:
    return str(int(layer)) if int(layer) >= 0 else _OUTSIDE


def _checkpoints(delta: Delta) -> str:
    names = delta.checkpoints
    return names[0] if len(names) == 1 else f"{len(names)} checkpoints, {names[0]} to {names[-1]},"


def _stills(delta: Delta, file: File) -> tuple[Still, ...]:
    kinds: list[tuple[str, dict[str, Any]]] = [("heatmap", {"of": "relative"})]
    if delta.histograms:
        kinds.append(("histograms", {}))
    if len(delta.heads):
        kinds.append(("heads", {}))
    if len(delta.checkpoints) > 1:
        kinds.append(("trajectory", {}))
    return tuple(
        stills.of_result(delta, f"How far weights moved ({kind}): {file.title}", kind=kind, **more)
        for kind, more in kinds
    )


def _verdicts(delta: Delta) -> Iterator[str]:
    """Which modules have two humps of their own, after correction and beside their nulls."""
    if "verdict" not in delta.frame:
        return
    rows = delta.frame[delta.frame["checkpoint"] == delta.checkpoints[-1]]
    counts = rows["verdict"].value_counts()
    listed = ", ".join(f"{name} in {n}" for name, n in counts.items())
    yield (
        f"Histograms of relative change of {len(rows)} weights, by what explains their shape beside their nulls "
        f"(corrected over all of them): {listed}."
    )
    if len(two := rows[rows["verdict"] == "bimodal"]):
        named = ", ".join(f"{row['module']} of layer {row['layer']}" for row in two.head(8).to_dict("records"))
        yield f"Two humps that no null makes: {named}{', and more' if len(two) > 8 else ''}."
