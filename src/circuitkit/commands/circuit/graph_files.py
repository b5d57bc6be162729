"""Graphs from files of either format, and the circuits that are cut out of them."""

from __future__ import annotations

from collections.abc import Iterable
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
    if not (path / "graph.safetensors" if path.is_dir() else path).is_file():
        what = "no graph.safetensors in this folder" if path.is_dir() else "no such file"
        raise ValueError(f"{path}: {what}; circuitkit circuit find writes one, graph.safetensors")
    if path.suffix == ".json":
        layout = None if model is None else circuits.Layout.of(model)
        grouped = layout if layout is not None and layout.n_heads != layout.n_kv_heads else None
        graph = circuits.Graph.from_eap_ig(path, positive=_SIGNS[positive], layout=grouped)
    else:
        graph = circuits.Graph.load(path)
    if model is not None:
        graph.check_fits(model)
    return graph


def check_signs(files: Iterable[str | Path], positive: Sign, rule: Selection) -> None:
    """Refuse signs that are told of files which hold them, and edges by signs that nobody tells.

    Raises:
        ValueError: either of it.

    >>> check_signs(["circuit/graph.safetensors"], "raises", Selection())
    Traceback (most recent call last):
    ...
    ValueError: --positive tells what JSON does not; a graph of circuitkit tells it itself, so leave --positive out
    """
    json = any(Path(file).suffix == ".json" for file in files)
    if positive != "unknown" and not json:
        raise ValueError(
            "--positive tells what JSON does not; a graph of circuitkit tells it itself, so leave --positive out"
        )
    if positive == "unknown" and json and rule.by == "signed":
        raise ValueError(
            "--by signed goes by what a score above zero says, and JSON does not tell: give --positive lowers or raises"
        )


def is_uncut(graph: circuits.Graph) -> bool:
    """Whether every edge is in the circuit."""
    return graph.size == graph.layout.n_edges


def cut(graph: circuits.Graph, rule: Selection) -> circuits.Graph:
    """The circuit that is selected; if none is, the file's own, or the usual share of edges where it has all."""
    if rule.named or is_uncut(graph):
        return rule.choice(graph.layout.n_edges).of(graph)
    return graph


def check_how_many(graph: circuits.Graph, rule: Selection) -> None:
    """Refuse a rule that says how edges are taken and not how many, of a graph whose circuit is cut out already.

    Raises:
        ValueError: so it is.
    """
    if rule != Selection() and not rule.named and not is_uncut(graph):
        raise ValueError(
            "--by, --select and --no-prune say how edges are taken, but the file holds a circuit that is cut already: "
            "say how many to take anew, with --top, --share or --threshold"
        )
