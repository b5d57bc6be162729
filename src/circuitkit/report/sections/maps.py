"""Patching and ablation maps: every cell's numbers, and each example's behind them, to be pointed at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from circuitkit.plots.study import title_of, unit_of
from circuitkit.report import sentences, stills
from circuitkit.report.contents import Contents, File
from circuitkit.report.section import Section
from circuitkit.report.sections.tables import thinned
from circuitkit.results import Column, Result
from circuitkit.writing import read_prompts

MOST_VALUES = 50_000
"""How many of a map's examples' values a page holds: some 400 KB."""

MOST_OF_ALL = 200_000
"""How many all maps of a folder share."""

FEWEST_EXAMPLES = 12
"""Examples of a cell below which cells are left out rather than examples."""

MOST_CELLS = 8_000
"""Cells above which only effects and what survives are kept of each."""

MOST_EFFECTS = 50_000
"""Cells above which there is no map to point at, only its still picture: a browser takes seconds to draw it."""

MOST_LETTERS = 1_200
"""How much of a prompt stands beside its example: its end, where prompts of one study differ most."""

Prompts = Mapping[str, Sequence[str] | None]
"""The clean and the corrupt prompts of a study, in the order of its examples."""

_SURE = ("low", "high", "p_corrected", "control_mean", "control_low", "control_high", "control_p", "control_n")


class Axis(TypedDict):
    """An axis of cells: what its entries are called, and what stands there."""

    name: str
    entries: list[int | str]
    labels: list[str] | None


class Measure(TypedDict):
    """What a map can show, and by what an effect is multiplied to be it."""

    name: Column
    unit: str
    scale: float


class Examples(TypedDict):
    """Each example's effects, of the examples and cells that are kept."""

    n: int
    indices: list[int]
    cells: list[int]
    effects: Any
    clean: Any
    corrupt: Any
    groups: list[int] | None
    prompts: Prompts | None


class MapData(TypedDict):
    """What the front end's map view draws (`frontend/src/views/map/data.ts`).

    `sure` holds what is known of each cell beside its effect: its interval, corrected p, and control.
    """

    title: str
    metric: str
    unit: str
    direction: str
    axes: list[Axis]
    measures: list[Measure]
    baseline: Mapping[str, float | None]
    effect: Any
    sure: dict[str, Any]
    control: Sequence[str] | None
    significant: list[int] | None
    untested: str | None
    examples: Examples


def sections(contents: Contents) -> Iterator[Section]:
    """A section for each result of a study, with its map, its table, and what it says."""
    files = contents.of_kind("result")
    for file in files:
        yield of_result(file.value, file, contents.folder, min(MOST_VALUES, MOST_OF_ALL // len(files)))
        contents.used(file.path)


def of_result(result: Result, file: File, folder: Path, most: int = MOST_VALUES) -> Section:
    """The section of one result of a folder, with up to so many of its examples' values."""
    table, cut = thinned(result.frame, f"{file.path.name} (.frame)")
    still = (
        (
            stills.of_result(
                result, f"{_what(result)}: {file.title}. {title_of(result)}, by {' and '.join(result.axes)}"
            ),
        )
        if _any(result)
        else ()
    )
    cells = result.values.numel()
    if not _any(result):
        view, notes = None, ["No cell of this study exists in this model, so there is nothing to draw."]
    elif cells > MOST_EFFECTS:
        view, notes = None, [f"A map of {cells:,} cells is too large to be pointed at; the picture shows all of them."]
    else:
        view, notes = data_of(result, prompts_of(result, folder), most)
    return Section(
        name=file.stem,
        title=file.title,
        caption=_caption(result, view is not None),
        view=None if view is None else "map",
        data=None if view is None else dict(view),
        stills=still,
        table=table,
        notes=(*notes, *cut),
        says=sentences.of(result),
    )


def prompts_of(result: Result, folder: Path) -> Prompts | None:
    """The prompts of a result's examples, where its folder has them, one for each."""
    found = read_prompts(folder, str(result.provenance.get("data_sha256")))
    n = result.per_example.shape[-1]
    return found if found and all(texts is None or len(texts) == n for texts in found.values()) else None


def data_of(result: Result, prompts: Prompts | None = None, most: int = MOST_VALUES) -> tuple[MapData, list[str]]:
    """What the map view draws of a result, and notes of what was thinned.

    >>> from circuitkit.results import Baseline
    >>> values, baseline = torch.tensor([[1.0, 2.0], [5.0, 5.0]]), Baseline(torch.full((2,), 5.0))
    >>> result = Result(values, ("layer",), baseline, "ablate", "kl")
    >>> data, notes = data_of(result)
    >>> data["effect"].tolist(), [measure["name"] for measure in data["measures"]], notes
    ([3.5, 0.0], ['normalised', 'effect'], [])
    """
    effects = result.effects.double().flatten()
    untested = result.frame.attrs.get("statistics")
    survives = None if untested else torch.nonzero(result.significant.flatten()).flatten().tolist()
    examples, notes = _examples(result, prompts, most)
    data: MapData = {
        "title": title_of(result),
        "metric": result.metric,
        "unit": result.unit,
        "direction": result.direction,
        "axes": [_axis(result, at) for at in range(len(result.axes))],
        "measures": _measures(result),
        "baseline": {"clean": result.baseline.clean_mean, "corrupt": result.baseline.corrupt_mean},
        "effect": effects,
        "sure": {},
        "control": None,
        "significant": survives,
        "untested": untested,
        "examples": examples,
    }
    if len(effects) > MOST_CELLS:
        notes.append(
            f"With {len(effects):,} cells, intervals, corrected p-values and controls are not in the map; "
            "the result's .frame has them."
        )
        return data, notes
    if "control_n" in result.frame:
        data["control"] = _controls(result)
    there = ~torch.isnan(effects).numpy()
    for name in _SURE:
        if name in result.frame and not (untested and name in ("low", "high", "p_corrected")):
            data["sure"][name] = _at_cells(result.frame[name].to_numpy(), there)
    return data, notes


def _at_cells(column: Float[np.ndarray, " row"], there: Any) -> Float[np.ndarray, " cell"]:
    """A column of the table, which has no rows of cells that do not exist, as a number for each cell."""
    whole = np.full(len(there), np.nan)
    whole[there] = column
    return whole


def _examples(result: Result, prompts: Prompts | None, most: int) -> tuple[Examples, list[str]]:
    """The examples' effects, thinned to about `most` values, and a note of that."""
    effects = result.effects_per_example.flatten(0, -2)
    n = effects.shape[-1]
    cells = torch.nonzero(~result.effects.flatten().isnan()).flatten()
    examples, notes = torch.arange(n), []
    if len(cells) * n > most:
        kept = min(n, max(FEWEST_EXAMPLES, most // len(cells)))
        # Evenly spaced, since neighbours often share a template.
        examples = torch.linspace(0, n - 1, kept).round().long()
        if kept < n:
            notes.append(
                f"Of each cell's {n:,} examples {kept:,}, evenly spaced, are in the page; "
                "means, intervals and tests are those of all."
            )
        if (some := max(1, most // kept)) < len(cells):
            strongest = result.effects.flatten()[cells].abs().argsort(descending=True, stable=True)[:some]
            notes.append(f"Examples are in the page for the {some:,} strongest of {len(cells):,} cells.")
            cells = cells[strongest].sort().values
    baseline = result.baseline
    return {
        "n": n,
        "indices": examples.tolist(),
        "cells": cells.tolist(),
        "effects": effects[cells][:, examples],
        "clean": baseline.clean[examples],
        "corrupt": None if baseline.corrupt is None else baseline.corrupt[examples],
        "groups": None if result.groups is None else result.groups[examples].tolist(),
        "prompts": None if prompts is None else {side: _ends(texts, examples) for side, texts in prompts.items()},
    }, notes


def _ends(texts: Sequence[str] | None, examples: Tensor) -> list[str] | None:
    if texts is None:
        return None
    chosen = [texts[i] for i in examples.tolist()]
    return [text if len(text) <= MOST_LETTERS else "…" + text[-MOST_LETTERS:] for text in chosen]


def _axis(result: Result, at: int) -> Axis:
    name = result.axes[at]
    labels = result.labels.get(name)
    return {
        "name": name,
        "entries": list(result.coordinates.get(name, range(result.per_example.shape[at]))),
        "labels": None if labels is None else list(labels),
    }


def _measures(result: Result) -> list[Measure]:
    effect: Measure = {"name": "effect", "unit": unit_of(result, "effect"), "scale": 1.0}
    if result.undefined:
        return [effect]
    # By the definition of a result, one number takes every effect to its normalised one.
    strongest = int(result.effects.abs().nan_to_num(-1.0).argmax())
    largest = float(result.effects.flatten()[strongest])
    scale = float(result.normalised.flatten()[strongest]) / largest if largest else 1.0
    return [{"name": "normalised", "unit": unit_of(result, "normalised"), "scale": scale}, effect]


def _controls(result: Result) -> tuple[str, str]:
    if result.controls is not None:
        return "random set, matched in layer and number", "random sets, matched in layer and number"
    return "other head of its layer", "other heads of its layer"


def _any(result: Result) -> bool:
    return not bool(result.values.isnan().all())


def _what(result: Result) -> str:
    return {1: "Bars", 2: "Map"}.get(len(result.axes), "Maps")


def _caption(result: Result, interactive: bool) -> str:
    told = ". ".join(title_of(result).split("\n")) + "."
    if not interactive:
        return told
    more = "" if len(result.axes) < 3 else f" Choose {' and '.join(result.axes[:-2])} above it."
    differs = any(label[:1] == "~" for label in result.labels.get("position", ()))
    tokens = " Positions have the first pair's tokens, behind ~ where pairs differ." if differs else ""
    return f"{told} Point at a cell for its numbers, and click it for the examples behind it.{more}{tokens}"
