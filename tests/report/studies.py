"""Folders of results as commands leave them, made by hand, and texts that must never be more than text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from circuitkit.results import Baseline, Result
from circuitkit.writing import write_table

HOSTILE = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    "-->\u2028<!--",
    "a\x00b\x1b[31m",
    "\u202eturned round\u202c",
    "$x^2$ & \"q\" 'r' {{ 7 * 7 }}",
    "中文 العربية",
)
"""Responses, tokens and names that a page must show as they are."""

ORIGIN = {
    "model": "deductor-5k",
    "data_sha256": "af3",
    "seed": 0,
    "versions": {"circuitkit": "0.1.0", "torch": "2.13.0"},
    "command": "/opt/bin/circuitkit patch deductor-5k --out 'my study'",
    "time": "2026-01-01T00:00:00+00:00",
    "over": "resid_pre",
}
"""Where a result comes from."""


def result(cells: int = 3, **told: Any) -> Result:
    """A study of some layers, of which the first alone does much."""
    drawn = torch.Generator().manual_seed(0)
    per_example = (torch.rand(cells, 8, generator=drawn) - 0.5) * 0.1
    per_example[0] += 4
    baseline = Baseline(torch.full((8,), 5.0), torch.zeros(8))
    usual = {"title": "Patching resid_pre", "unit": "logits", "metric": "logit_difference", "provenance": ORIGIN}
    return Result(per_example, ("layer",), baseline, "denoise", **(usual | told))


def study(folder: Path, name: str = "residual", **told: Any) -> Path:
    """A folder with a result, its table, its figure and its provenance."""
    made = result(**told)
    made.save(folder / f"{name}.safetensors")
    write_table(folder / f"{name}.csv", made.frame)
    Image.new("RGB", (8, 8)).save(folder / f"{name}.png")
    write_json(folder / "provenance.json", dict(made.provenance))
    return folder


def table(folder: Path, name: str = "table", **told: Any) -> Path:
    """A folder with a table alone, and a provenance where some is told."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.csv").write_text("n,share\n1,0.5\n")
    if told:
        write_json(folder / "provenance.json", ORIGIN | told)
    return folder


def write_json(path: Path, told: Any) -> None:
    """JSON as any program writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(told))
