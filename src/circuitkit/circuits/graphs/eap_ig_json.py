"""The JSON format of the EAP-IG reference implementation (Hanna et al. 2024, arXiv 2403.17806), read and written.

A file has `cfg` (n_layers, n_heads, parallel_attn_mlp, d_model), `nodes` with `in_graph`, and `edges` named as
`a5.h5->a8.h6<v>` with `score` and `in_graph`. It knows no heads that share keys and values: each query head has edges
into a key and a value of its own, whose scores add up to those of the shared ones. It does not say what the sign of a
score means either, since that depends on the loss that was attributed.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from circuitkit.circuits.errors import CircuitError
from circuitkit.circuits.graphs.convention import Convention
from circuitkit.circuits.graphs.layout import LOGITS, Layout, head_name
from circuitkit.records import provenance, whole_file

if TYPE_CHECKING:
    from circuitkit.circuits.graphs.graph import Graph

Shared = Literal["refuse", "split"]
_CFG = {"n_layers": int, "n_heads": int, "parallel_attn_mlp": bool}


def read(path: str | Path, convention: Convention, layout: Layout | None = None) -> Graph:
    """Read a file; see `Graph.from_eap_ig`."""
    from circuitkit.circuits.graphs.graph import Graph

    path = Path(path)
    text = _text(path)
    told = _parsed(path, text)
    layout = _checked_layout(path, told["cfg"], layout)
    _check_names(path, "node", told["nodes"], layout.nodes)
    ends = list(_edges(layout))
    _check_names(path, "edge", told["edges"], [name for name, _, _ in ends])
    rows, columns = np.array([(row, column) for _, row, column in ends]).T
    scores, inside = _edge_values(path, told["edges"], [name for name, _, _ in ends])
    _tell_disagreeing(
        path, told["nodes"], _ends_of(name for (name, _, _), own in zip(ends, inside, strict=True) if own)
    )
    table = np.zeros(layout.reach.shape)
    np.add.at(table, (rows, columns), scores)
    members = np.zeros(table.shape, dtype=bool)
    np.logical_or.at(members, (rows, columns), inside)
    # What was a float32 when it was written is one again.
    single = bool((scores.astype(np.float32) == scores).all())
    return Graph(
        layout=layout,
        scores=torch.from_numpy(table.astype(np.float32) if single else table),
        members=torch.from_numpy(members),
        convention=convention,
        provenance=provenance(model_name="not told by the file", data=text, read_from=path.name, cfg=told["cfg"]),
    )


def write(graph: Graph, path: str | Path, d_model: int | None = None, shared: Shared = "refuse") -> Path:
    """Write a file, whole or not at all; see `Graph.to_eap_ig`."""
    path = Path(path)
    if path.suffix != ".json":
        raise CircuitError(f"{path}: the EAP-IG format is saved as .json; graph.save writes .safetensors")
    cfg = _cfg(graph, d_model)
    sharing = _sharing(graph.layout, shared)
    scores = (graph.scores.double() / torch.from_numpy(sharing)).to(graph.scores.dtype).tolist()
    members = graph.members.tolist()
    edges = {
        name: {"score": scores[row][column], "in_graph": members[row][column]}
        for name, row, column in _edges(graph.layout)
    }
    touched = _ends_of(name for name, edge in edges.items() if edge["in_graph"]) | {LOGITS}
    told = {
        "cfg": cfg,
        "nodes": {name: {"in_graph": name in touched} for name in graph.layout.nodes},
        "edges": edges,
    }
    with whole_file(path) as beside:
        beside.write_text(json.dumps(told))
    return path


def _edges(layout: Layout) -> Iterator[tuple[str, int, int]]:
    """Each edge's name, row and column, in the format's order; those of a shared key or value once a query head."""
    for layer in range(layout.n_layers):
        heads = [head_name(layer, head) for head in range(layout.n_heads[layer])]
        inputs = [
            (f"{head}<{kind}>", column)
            for head in heads
            for kind, column in zip("qkv", layout.inputs_of(head), strict=True)
        ]
        mlp = (f"m{layer}", layout.mlp_input_at(layer))
        if layout.parallel[layer]:
            inputs.append(mlp)
        yield from _into(layout, layout.before_attention(layer), inputs)
        if not layout.parallel[layer]:
            yield from _into(layout, layout.before_mlp(layer), [mlp])
    yield from _into(layout, slice(0, len(layout.sources)), [(LOGITS, layout.logits_at)])


def _into(layout: Layout, rows: slice, inputs: Iterable[tuple[str, int]]) -> Iterator[tuple[str, int, int]]:
    for row in range(rows.start, rows.stop):
        for name, column in inputs:
            yield f"{layout.sources[row]}->{name}", row, column


def _ends_of(edges: Iterable[str]) -> set[str]:
    """The nodes at the ends of named edges."""
    return {end.split("<")[0] for edge in edges for end in edge.split("->")}


# Reading


def _text(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise CircuitError(f"{path}: no JSON, but bytes; Graph.load reads .safetensors") from None


def _parsed(path: Path, text: str) -> dict[str, Any]:
    try:
        told = json.loads(text)
    except json.JSONDecodeError as error:
        raise CircuitError(f"{path}: cut short or no JSON ({error}); make it again, or copy it whole") from None
    if not isinstance(told, dict) or not all(isinstance(told.get(key), dict) for key in ("cfg", "nodes", "edges")):
        raise CircuitError(f"{path}: not in the EAP-IG format, which has objects cfg, nodes and edges")
    for key, kind in _CFG.items():
        if type(told["cfg"].get(key)) is not kind:
            raise CircuitError(
                f"{path}: cfg.{key} is {told['cfg'].get(key)!r}, and the EAP-IG format has a {kind.__name__}"
            )
    for name, node in told["nodes"].items():
        if not isinstance(node, dict) or type(node.get("in_graph")) is not bool:
            raise CircuitError(f"{path}: node {name} does not say by in_graph: true or false whether it is in")
        if "neurons" in node or "neurons_scores" in node:
            raise CircuitError(f"{path}: node {name} has neurons, and a circuit of single neurons cannot be read")
    if any("score" in node for node in told["nodes"].values()):
        warnings.warn(f"{path}: scores of nodes are not read; a graph has those of edges", stacklevel=5)
    return told


def _checked_layout(path: Path, cfg: Mapping[str, Any], layout: Layout | None) -> Layout:
    layers, heads, parallel = (cfg[key] for key in _CFG)
    if layout is None:
        if layers < 1 or heads < 1:
            raise CircuitError(f"{path}: cfg has {layers} layers of {heads} heads")
        return Layout((heads,) * layers, (heads,) * layers, (parallel,) * layers)
    if layout.n_heads != (heads,) * layers or layout.parallel != (parallel,) * layers:
        raise CircuitError(
            f"{path}: a graph of another architecture: {layers} layers of {heads} heads"
            f"{', parallel to their MLPs' if parallel else ''}; the layout asked for is {layout}"
        )
    return layout


def _check_names(path: Path, what: str, found: Mapping[str, Any], expected: Iterable[str]) -> None:
    expected = dict.fromkeys(expected)
    if unknown := [name for name in found if name not in expected]:
        raise CircuitError(
            f"{path}: {len(unknown):,} unknown {what}s, the first {unknown[0]!r}: a graph of this cfg has none such"
        )
    if missing := [name for name in expected if name not in found]:
        raise CircuitError(f"{path}: {len(missing):,} {what}s are missing, the first {missing[0]!r}; copy it whole")


def _edge_values(
    path: Path, edges: Mapping[str, Any], names: Iterable[str]
) -> tuple[np.ndarray[Any, np.dtype[np.float64]], np.ndarray[Any, np.dtype[np.bool_]]]:
    scores, inside = [], []
    for name in names:
        edge = edges[name]
        if not isinstance(edge, dict) or type(edge.get("in_graph")) is not bool:
            raise CircuitError(f"{path}: edge {name} does not say by in_graph: true or false whether it is in")
        score = edge.get("score")
        if not isinstance(score, int | float) or isinstance(score, bool) or not np.isfinite(score):
            raise CircuitError(f"{path}: edge {name} has score {score!r}, and it needs a finite number")
        scores.append(float(score))
        inside.append(edge["in_graph"])
    return np.array(scores), np.array(inside)


def _tell_disagreeing(path: Path, nodes: Mapping[str, Any], touched: set[str]) -> None:
    # The format has the logits in every circuit, the empty one included.
    differing = [name for name, node in nodes.items() if node["in_graph"] != (name in touched) and name != LOGITS]
    if differing:
        first = differing[0]
        said, true = ("in", "no edge") if nodes[first]["in_graph"] else ("out", "an edge")
        warnings.warn(
            f"{path}: {len(differing)} nodes disagree with the edges (the first, {first}, is {said}, and {true} of the "
            "circuit touches it): the edges are what is read",
            stacklevel=4,
        )


# Writing


def _cfg(graph: Graph, d_model: int | None) -> dict[str, Any]:
    layout = graph.layout
    if len(set(layout.n_heads)) > 1 or len(set(layout.parallel)) > 1:
        raise CircuitError(f"the EAP-IG format has one number of heads for all layers, which {layout} has not")
    known = dict(graph.provenance.get("cfg") or {})
    width = d_model if d_model is not None else known.get("d_model", graph.provenance.get("d_model"))
    if width is None:
        raise CircuitError("the EAP-IG format holds the width of the stream, which this graph does not: give d_model=")
    return known | {
        "n_layers": layout.n_layers,
        "n_heads": layout.n_heads[0],
        "parallel_attn_mlp": layout.parallel[0],
        "d_model": width,
    }


def _sharing(layout: Layout, shared: Shared) -> np.ndarray[Any, np.dtype[np.float64]]:
    """How many nodes read by each column."""
    if shared not in ("refuse", "split"):
        raise CircuitError(f"shared keys and values are written by shared='refuse' or 'split', not {shared!r}")
    if layout.n_heads != layout.n_kv_heads and shared == "refuse":
        raise CircuitError(
            "the EAP-IG format has a key and a value for each query head, and in this graph heads share theirs: with "
            "shared='split' each head of a group is given an equal part of the score, and the membership"
        )
    return np.maximum(layout.reads.sum(0).numpy().astype(np.float64), 1.0)
