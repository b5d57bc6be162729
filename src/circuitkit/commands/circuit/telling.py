"""What is said and written of a graph."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from circuitkit import plots
from circuitkit.writing import write_json, write_table

if TYPE_CHECKING:
    from circuitkit.circuits import Graph

_TOLD = ("model", "revision", "read_from", "pairs", "align", "seed", "command", "time")


def heads_of(graph: Graph) -> pd.DataFrame:
    """A row a head, the most important first: its edges' magnitudes, whether it is in, its degrees in the circuit."""
    importance, inside = graph.importance().numpy(), set(graph.heads)
    complexity = graph.complexity.query("head >= 0").reset_index(drop=True)
    layers, heads = complexity["layer"].to_numpy(), complexity["head"].to_numpy()
    table = complexity[["layer", "head"]].assign(
        importance=importance[layers, heads],
        in_circuit=[each in inside for each in zip(layers.tolist(), heads.tolist(), strict=True)],
        in_degree=complexity["in_degree"],
        out_degree=complexity["out_degree"],
        paths=complexity["paths"],
    )
    return table.sort_values("importance", ascending=False, kind="stable", ignore_index=True)


def tell_graph(graph: Graph, path: Path, edges: int, heads: int) -> None:
    """Print what a graph holds: its origin, what scores mean, the circuit, the strongest edges and heads."""
    layout = graph.layout
    print(f"{path}: {layout}")
    print(f"Scores: {graph.convention}")
    kept = [] if graph.per_example is None else [f"of {len(graph.per_example)} examples each"]
    kept += [f"by span ({', '.join(graph.by_span)})"] if graph.by_span else []
    print(f"Kept too: {' and '.join(kept) or 'nothing but means over examples'}")
    # What was read from another tool's file was made at no time and by no command that is known.
    names = [name for name in _TOLD if name not in ("command", "time") or "read_from" not in graph.provenance]
    told = [f"{name} {graph.provenance[name]}" for name in names if graph.provenance.get(name) is not None]
    if told:
        print(f"From: {'; '.join(told)}")
    whole = " (uncut: all edges)" if graph.size == layout.n_edges else ""
    print(
        f"Circuit: {graph.size:,} of {layout.n_edges:,} edges{whole}, {len(graph.heads)} of {sum(layout.n_heads)} "
        f"heads, {len(graph.mlps)} of {layout.n_layers} MLPs"
    )
    if graph.prune().size < graph.size:
        print(f"Of its edges {graph.size - graph.prune().size:,} lie on no way from the input to the logits")
    if edges and graph.size:
        print(f"Strongest edges of the circuit ({min(edges, graph.size)} of {graph.size:,}):")
        print(_printed(graph.frame[["source", "destination", "score"]].head(edges)))
    if heads:
        table = heads_of(graph)
        print(f"Heads by the magnitudes of all edges out of them ({min(heads, len(table))} of {len(table)}):")
        print(_printed(table.head(heads)))


def _printed(table: pd.DataFrame) -> str:
    return table.to_string(index=False, float_format="{:.4g}".format)


def write_graph(graph: Graph, out: Path) -> None:
    """Write the circuit's edges, all heads, both figures and provenance into a folder."""
    write_table(out / "circuit.csv", graph.frame.drop(columns="in_circuit"))
    write_table(out / "heads.csv", heads_of(graph))
    plots.save(graph.plot(), out / "circuit.png")
    if bool(np.isfinite(graph.importance().numpy()).any()):
        plots.save(graph.head_map(), out / "heads.png")
    write_json(out / "provenance.json", {**graph.provenance, "convention": str(graph.convention)})
