"""Graphs on disk: one safetensors file with the arrays, the layout, what the scores mean, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from circuitkit import saving
from circuitkit.circuits.errors import CircuitError
from circuitkit.circuits.graphs.convention import Convention
from circuitkit.circuits.graphs.layout import Layout

if TYPE_CHECKING:
    from circuitkit.circuits.graphs.graph import Graph

_FORMAT = 1


def save(graph: Graph, path: str | Path) -> Path:
    """Write a graph to one file, whole or not at all, and give its path; a folder gets `graph.safetensors`."""
    return saving.save(path, "graph", *packed(graph))


def packed(graph: Graph) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A graph as arrays by name, and all else as JSON."""
    arrays = {
        "scores": graph.scores,
        "members": graph.members,
        "per_example": graph.per_example,
        "groups": graph.groups,
    } | {f"by_span.{place}": scores for place, scores in enumerate(graph.by_span.values())}
    told = {
        "format": _FORMAT,
        "layout": asdict(graph.layout),
        "convention": asdict(graph.convention),
        "spans": list(graph.by_span),
        "provenance": dict(graph.provenance),
    }
    return {name: array for name, array in arrays.items() if array is not None}, told


def load(path: str | Path) -> Graph:
    """Read a graph that `save` wrote, from its file or its folder.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file is cut short, or holds something else.
        CircuitError: it was written by a later version, or its arrays and what it tells of them disagree.
    """
    return unpacked(path, *saving.load(path, "graph"))


def unpacked(path: str | Path, arrays: Mapping[str, Tensor], told: Mapping[str, Any]) -> Graph:
    """The graph that `packed` took apart; `path` is where it was found.

    Raises:
        CircuitError: it was written by a later version, or its arrays and what it tells of them disagree.
    """
    from circuitkit.circuits.graphs.graph import Graph

    if told.get("format") != _FORMAT:
        raise CircuitError(
            f"{path}: a graph of format {told.get('format')!r}, and this version reads {_FORMAT}: it was written by a "
            "later circuitkit; upgrade to read it"
        )
    try:
        return Graph(
            layout=Layout(**{name: tuple(counts) for name, counts in told["layout"].items()}),
            scores=arrays["scores"],
            members=arrays["members"],
            convention=Convention(**told["convention"]),
            per_example=arrays.get("per_example"),
            by_span=_spans(arrays, told),
            groups=arrays.get("groups"),
            provenance=told["provenance"],
        )
    except KeyError as missing:
        raise CircuitError(f"{path}: a graph without {missing}; make it again") from None
    except (CircuitError, TypeError) as wrong:
        raise CircuitError(f"{path}: {wrong}") from None


def _spans(arrays: Mapping[str, Tensor], told: Mapping[str, Any]) -> dict[str, Tensor]:
    return {span: arrays[f"by_span.{place}"] for place, span in enumerate(told["spans"])}
