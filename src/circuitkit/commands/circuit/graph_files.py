"""Graphs from files of either format, and the circuits that are cut out of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from circuitkit.commands.circuit.options import Selection

if TYPE_CHECKING:
    from circuitkit import circuits
    from circuitkit.circuits.graphs.convention import Positive
    from circuitkit.model import Model

Sign = Literal["lowers", "raises", "unknown"]
_SIGNS: dict[Sign, Positive] = {
    "lowers": "corrupting lowers the metric",
    "raises": "corrupting raises the metric",
    "unknown": "unknown",
}


def is_graph(name: str) -> bool:
    """Whether a name is that of a graph's file, or of the folder of one, and not of a model.

    >>> is_graph("deductor-130k"), is_graph("circuit/graph.safetensors")
    (False, True)
    """
    path = Path(name)
    return path.suffix in (".safetensors", ".json") or (path / "graph.safetensors").is_file()


def graph_at(name: str | Path, positive: Sign = "unknown", model: Model | None = None) -> circuits.Graph:
    """A graph that `circuitkit circuit find` wrote, or one of the EAP-IG reference code.

    Where a model is given, the graph is of its architecture: JSON does not tell which heads share keys and values.

    Raises:
        ValueError: there is no such file, it holds something else, or a graph of another architecture than the model's.
    """
    from circuitkit import circuits

    path = Path(name)
    if not path.exists():
        raise ValueError(f"{path}: no such file; circuitkit circuit find writes one, graph.safetensors")
    if path.suffix == ".json":
        layout = None if model is None else circuits.Layout.of(model)
        grouped = layout if layout is not None and layout.n_heads != layout.n_kv_heads else None
        graph = circuits.Graph.from_eap_ig(path, positive=_SIGNS[positive], layout=grouped)
    else:
        graph = circuits.Graph.load(path)
    if model is not None:
        graph.check_fits(model)
    return graph


def cut(graph: circuits.Graph, rule: Selection) -> circuits.Graph:
    """The circuit that is selected; if none is, the file's own, or the usual share of edges where it has all."""
    if rule.named or graph.size == graph.layout.n_edges:
        return rule.choice(graph.layout.n_edges).of(graph)
    return graph
