"""Answers to be read: how many are of each level under each graft and destruction, and some of each level."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pandas as pd

import circuitkit as ck
from circuitkit import studies
from circuitkit.records import provenance
from circuitkit.sfn import Condition, LevelTable
from stethoscope.asking import Asked
from stethoscope.cells import Cell
from stethoscope.changing import Change, Weights
from stethoscope.levelling import graded_by
from stethoscope.plans import Pair
from stethoscope.study import Study

FOLDER = ".read"
"""Where the cells are kept: what is to be seen of them is in the tables of levels."""

NAMES = {"merges": ("pair", "direction", "set"), "destructions": ("pair", "how", "set", "layers")}
"""What conditions are told apart by."""

TITLES = {
    "merges": "Merges: levels of responses, and what stands behind each",
    "destructions": "Destructions: levels of responses, and what stands behind each",
}


def graded(model: ck.Model, change: Change | None, asked: Asked, seeds: tuple[int, ...], reference: Weights) -> Cell:
    """How many answers are of each level with all seeds, and the first few of each, as JSON.

    What a cell of `cells.answered` counts, asked in the same way; it keeps no text, and its trainings are not run anew
    for the sake of some.
    """
    groups = [(seed,) for seed in seeds] if change is not None and change.random else [tuple(seeds)]
    intact = reference.load()
    found = []
    for group in groups:
        held: AbstractContextManager[int] = nullcontext(0) if change is None else change.on(model, group[0])
        with held:
            found.append(Condition.of({}, graded_by(asked.evaluated(model, group), intact)))
    counts: Counter[str] = Counter()
    for each in found:
        counts.update(each.counts)
    # Of the first seed, as many as are kept of one.
    return {"graded": json.dumps({"counts": dict(counts), "kept": found[0].to_json()["kept"]})}


def kept(whole: Study, pairs: Iterable[Pair]) -> dict[str, LevelTable]:
    """The table of levels of all grafts, and that of destructions of whole modules; controls are in neither."""
    own = list(pairs)
    planned = {
        "merges": [cell for pair in own for cell in whole.grafts(pair)],
        "destructions": [cell for pair in own if pair.destroyed for cell in whole.ruins(pair)],
    }
    found = {}
    for name, cells in planned.items():
        shown = [(told, _graded(cell)) for told, cell in cells if _shown(told)]
        if shown:
            found[name] = _table(name, whole.running.rows(shown, FOLDER), whole.plan.seeds[0])
    return found


def save(tables: dict[str, LevelTable], out: Path) -> None:
    """Write each table into a file of its own."""
    for name, table in tables.items():
        table.save(out / f"levels_of_{name}.json")


def _shown(told: dict[str, Any]) -> bool:
    return told["kind"] in ("set", "end") and (told.get("layers", "all") == "all" or told.get("how") == "remove")


def _graded(cell: studies.Cell) -> studies.Cell:
    return studies.Cell(graded, cell.parameters)


def _table(name: str, rows: pd.DataFrame, seed: int) -> LevelTable:
    conditions: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in rows.to_dict("records"):
        told = {each: "" if pd.isna(row.get(each)) else str(row[each]) for each in NAMES[name]}
        found = json.loads(row["graded"])
        # A pair of several twins, one a seed, has a row each.
        first = conditions.setdefault(tuple(told.values()), {"told": told, "counts": {}, "kept": found["kept"]})
        first["counts"] = {level: n + first["counts"].get(level, 0) for level, n in found["counts"].items()}
    models = ", ".join(dict.fromkeys(rows["pair"]))
    return LevelTable(
        TITLES[name], tuple(map(Condition.from_json, conditions.values())), provenance(model_name=models, seed=seed)
    )
