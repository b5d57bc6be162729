"""What a study leaves in its folder: tables, figures, what they say, and where they come from, each file whole."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from circuitkit import plots
from circuitkit.writing import write_json, write_table, write_text

PLAN = "plan.json"
"""What a folder's study was asked."""


def same_plan(out: Path, plan: Mapping[str, object]) -> None:
    """Keep what a study is asked in its folder, since files of one study would be overwritten by another's.

    Raises:
        SystemExit: the folder holds what was asked otherwise; what differs is named.
    """
    asked = {name: repr(value) for name, value in plan.items()}
    path = out / PLAN
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        if others := [name for name in asked if before.get(name, asked[name]) != asked[name]]:
            said = "; ".join(f"{name} was {before[name]} and is {asked[name]}" for name in others)
            raise SystemExit(f"{out} holds a study of another plan: {said}. Give another --out, or the same settings")
        asked = before | asked
    write_json(path, asked)


def write_report(
    out: Path,
    tables: Mapping[str, pd.DataFrame],
    figures: Mapping[str, Figure],
    sentences: str,
    provenance: Mapping[str, Any],
    *,
    name: str = "sentences.md",
) -> None:
    """Write tables (CSV) and figures (PNG, SVG) by their names, what they say, and at last `provenance.json`."""
    for table_name, table in tables.items():
        write_table(out / f"{table_name}.csv", table)
    for figure_name, figure in figures.items():
        plots.save(figure, out / f"{figure_name}.png")
    write_text(out / name, sentences)
    write_json(out / "provenance.json", provenance)


def listed(sentences: Iterable[str]) -> str:
    r"""Sentences as a list in Markdown.

    >>> listed(["One is so.", "Two are not."])
    '- One is so.\n- Two are not.\n'
    """
    return "".join(f"- {sentence}\n" for sentence in sentences)
