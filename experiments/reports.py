"""What a study leaves in its folder: tables, figures, what they say, and where they come from, each file whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from circuitkit import plots
from circuitkit.writing import write_json, write_table, write_text


def write_report(
    out: Path,
    tables: Mapping[str, pd.DataFrame],
    figures: Mapping[str, Figure],
    sentences: str,
    provenance: Mapping[str, Any],
    *,
    name: str = "sentences.md",
) -> None:
    """Write tables (CSV) and figures (PNG) by their names, what they say, and at last `provenance.json`."""
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
