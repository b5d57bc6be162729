"""What a file holds, told by what is in it and not by its name, and the class that reads it again."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from circuitkit.report.errors import ReportError


class Reader(NamedTuple):
    """The class whose `load` reads a kind of file.

    Attributes:
        home: its module.
        name: the class.
        of_folder: whether it reads the file's folder, since the result is in several files.
    """

    home: str
    name: str
    of_folder: bool = False

    def load(self, path: Path) -> Any:
        """Read it."""
        return getattr(importlib.import_module(self.home), self.name).load(path.parent if self.of_folder else path)


READERS: Mapping[str, Reader] = {
    "result": Reader("circuitkit.results", "Result"),
    "cache": Reader("circuitkit.run.cache", "Cache"),
    "attention": Reader("circuitkit.attention.patterns", "Attention"),
    "token_scores": Reader("circuitkit.attention.streamed", "TokenScores"),
    "gold_scores": Reader("circuitkit.attention.gold", "GoldScores"),
    "graph": Reader("circuitkit.circuits.graphs.graph", "Graph"),
    "node_scores": Reader("circuitkit.circuits.attributing.node_scores", "NodeScores"),
    "faithfulness": Reader("circuitkit.circuits.evaluating.faithful", "Faithfulness"),
    "curve": Reader("circuitkit.circuits.evaluating.curve_outcome", "Curve"),
    "completeness": Reader("circuitkit.circuits.evaluating.complete", "Completeness"),
    "minimality": Reader("circuitkit.circuits.evaluating.minimal", "Minimality"),
    "stability": Reader("circuitkit.circuits.evaluating.steadiness", "Stability"),
    "head_changes": Reader("circuitkit.circuits.comparing.head_changes", "HeadChanges"),
    "head_cohorts": Reader("circuitkit.circuits.comparing.cohorts_of_heads", "Cohorts"),
    "generation": Reader("circuitkit.circuits.comparing.generation_outcome", "GenerationEffects"),
    "delta": Reader("circuitkit.sfn.differences.outcome", "Delta"),
    "levels": Reader("circuitkit.sfn.response_levels.outcome", "Levels"),
    "level_table": Reader("circuitkit.sfn.response_levels.level_table", "LevelTable"),
    "manifest": Reader("circuitkit.sfn.written.manifest", "Manifest", of_folder=True),
    "threshold": Reader("circuitkit.thresholds.finding", "Threshold"),
    "evaluation": Reader("circuitkit.evaluation.outcome", "Evaluation", of_folder=True),
    "harness": Reader("circuitkit.interop.lm_eval.outcome", "HarnessEvaluation", of_folder=True),
    "training": Reader("circuitkit.training.outcome", "Trained", of_folder=True),
    "sweep": Reader("circuitkit.studies.table", "Sweep", of_folder=True),
}
"""The kinds of results, and who reads them."""

_JSON_FIELDS: Mapping[str, frozenset[str]] = {
    "threshold": frozenset({"circuitkit.threshold"}),
    "evaluation": frozenset({"format", "judges", "asked", "items"}),
    "levels": frozenset({"format", "calibration", "graded"}),
    "level_table": frozenset({"format", "title", "conditions"}),
    "generation": frozenset({"format", "intact", "runs", "answers"}),
    "manifest": frozenset({"format", "changes", "copied"}),
    "training": frozenset({"chosen", "rule", "trainable", "total"}),
    "harness": frozenset({"model", "runs", "provenance"}),
    "generated": frozenset({"prompt", "unchanged", "changed"}),
}
"""What the JSON of each kind has, and that of no other."""

UNREADABLE = (ValueError, OSError, LookupError, TypeError, AttributeError, RuntimeError, SafetensorError)
"""What reading a file raises that is cut short, altered, or another's."""

_SUFFIXES = {".csv": "table", ".png": "figure", ".svg": "figure", ".txt": "text", ".md": "text"}


def kind_of(path: Path) -> str | None:
    """What a file holds: a key of READERS, "provenance", "generated", "table", "figure", "text"; None of all else.

    Raises:
        ReportError: it is cut short.
    """
    if path.suffix == ".safetensors":
        return _of_safetensors(path)
    if path.suffix == ".json":
        return _of_json(path)
    return _SUFFIXES.get(path.suffix)


def _of_safetensors(path: Path) -> str | None:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except UNREADABLE as error:
        raise spoiled(path, error) from error
    for key in metadata:
        if (kind := str(key).removeprefix("circuitkit.")) != key and kind in READERS:
            return kind
    return "cache" if {"format", "sites"} <= metadata.keys() else None


def _of_json(path: Path) -> str | None:
    try:
        told: Any = json.loads(path.read_bytes())
    except UNREADABLE as error:
        raise spoiled(path, error) from error
    if not isinstance(told, dict):
        return None
    if told.keys() == {"format", "circuitkit"}:
        return "sweep"
    for kind, named in _JSON_FIELDS.items():
        if named <= told.keys():
            return kind
    return "provenance" if _tells_origin(told) else None


def _tells_origin(told: Mapping[str, Any]) -> bool:
    """Whether it is a provenance, or one of several results by their names."""
    if {"command", "versions"} <= told.keys():
        return True
    return bool(told) and all(
        isinstance(each, dict) and {"command", "versions"} <= each.keys() for each in told.values()
    )


def spoiled(path: Path, error: Exception) -> ReportError:
    """The error of a file that cannot be read."""
    why = " ".join(str(error).removeprefix(f"{path}: ").split())
    return ReportError(f"{path} cannot be read ({why}): make it again or copy it whole, or take it out of the folder")
