"""`circuitkit circuit show GRAPH`: what a file of a graph holds."""

from __future__ import annotations

from pathlib import Path

from circuitkit.commands.circuit.graph_files import Sign
from circuitkit.commands.circuit.options import Selection


def show(
    graph: Path,
    *,
    selection: Selection | None = None,
    positive: Sign = "unknown",
    edges: int = 12,
    heads: int = 12,
    out: Path | None = None,
) -> None:
    """Show a graph: what its scores mean, how large its circuit is, and its strongest edges and heads.

    It is the file's own circuit that is shown, if none is selected.

    ```
    circuitkit circuit show circuit/graph.safetensors
    circuitkit circuit show ioi-eap-ig.json --positive raises --top 200 \\
        --out pictures
    ```

    Parameters
    ----------
    graph
        A graph that "circuitkit circuit find" wrote (safetensors, or its folder), or one of the EAP-IG reference code
        (JSON).
    positive
        Of JSON, which does not tell: what a score above zero says. lowers: corrupting the edge lowers the metric.
        raises: corrupting it raises the metric, as in MIB's files. unknown: then edges can be taken by magnitude alone.
    edges
        How many of the strongest edges to print.
    heads
        How many of the most important heads to print.
    out
        Folder for the layered graph and the map of heads (PNG, SVG) and for edges and heads as tables (CSV); nothing is
        written if not given.
    """
    from circuitkit.commands.circuit.graph_files import check_how_many, check_signs, cut, graph_at
    from circuitkit.commands.circuit.telling import tell_graph, write_graph
    from circuitkit.commands.sfn.telling import check_folder

    rule = (selection or Selection()).checked()
    if edges < 0 or heads < 0:
        raise ValueError("--edges and --heads are how many to print, 0 or more")
    check_signs([graph], positive, rule)
    if out is not None:
        check_folder(out)
    found = graph_at(graph, positive)
    check_how_many(found, rule)
    circuit = found if rule == Selection() else cut(found, rule)
    # Behind `| head` nothing may be done any more once something is told.
    if out is not None:
        write_graph(circuit, out)
    tell_graph(circuit, graph, edges, heads)
    if out is not None:
        print(f"edges, heads and figures are in {out}/")
