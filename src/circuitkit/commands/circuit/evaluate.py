"""`circuitkit circuit evaluate MODEL GRAPH`: circuits of every size, run alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from circuitkit.commands.circuit.graph_files import Sign
from circuitkit.commands.circuit.options import MEASURES, Ablation, Selection, metric_name
from circuitkit.commands.loading import LoadAs
from circuitkit.commands.options import MetricName, metric_of
from circuitkit.commands.prompts import PairsFrom, load_with_pairs

_Sizes = Annotated[list[float] | None, Parameter(group=MEASURES, negative="", consume_multiple=True)]


def evaluate(
    model: str,
    graph: Path,
    *,
    sizes: _Sizes = None,
    selection: Selection | None = None,
    positive: Sign = "unknown",
    metric: MetricName | None = None,
    ablation: Ablation = "patch",
    controls: Annotated[int, Parameter(group=MEASURES)] = 20,
    sets: Annotated[int, Parameter(group=MEASURES)] = 20,
    parts: Annotated[Literal["edges", "nodes"], Parameter(group=MEASURES)] = "edges",
    most_parts: Annotated[int, Parameter(group=MEASURES)] = 100,
    prompts: PairsFrom | None = None,
    out: Path = Path("evaluation"),
    load_as: LoadAs | None = None,
) -> None:
    """Run circuits of every size alone, and measure how much of the behaviour each keeps.

    The curve over sizes has its areas CPR and CMD, as MIB (arXiv 2504.13151) defines them. The circuit of the graph, or
    the one that is selected, is tested for faithfulness (what it keeps), completeness (what the rest keeps without its
    parts) and minimality (what each of its edges is for). Pairs that the graph was not found on are an honest test:
    give another --seed than find had.

    ```
    circuitkit circuit evaluate deductor-130k circuit/graph.safetensors --seed 1
    circuitkit circuit evaluate gpt2 ioi-eap-ig.json --positive raises \\
        --task indirect-objects --top 756
    ```

    Parameters
    ----------
    model
        The model that the graph is of: an embedded one (deductor-130k), a folder, or a hub id.
    graph
        A graph that "circuitkit circuit find" wrote (safetensors), or one of the EAP-IG reference code (JSON).
    sizes
        Shares of all edges, such as 0.01 0.1 1; those of MIB (0.001 to 1) if not given.
    positive
        Of JSON, which does not tell: what a score above zero says of corrupting the edge, that it lowers or raises the
        metric. MIB's files say raises. While unknown, edges go by magnitude alone, and there is no CPR by sign.
    metric
        What is measured; the logit difference of pairs with a distractor if not given, the KL from the clean run else.
    ablation
        What the edges outside a circuit carry. patch: what they carry in the corrupt run. mean: their mean. zero:
        nothing.
    controls
        How many random circuits of each size are run beside them, and for minimality five times as many random parts.
    sets
        For completeness, how many random sets of the circuit's nodes are taken out of circuit and model alike; 0 for
        none.
    parts
        For minimality, what is taken out of the circuit one at a time.
    most_parts
        For minimality, how many of them at the most, drawn at random from all; 0 for none.
    out
        Folder for the circuit, the curves and what was measured (safetensors), tables (CSV), figures (PNG, SVG) and
        provenance (JSON).
    """
    from circuitkit.commands.circuit.evaluating import Evaluating, Settings
    from circuitkit.commands.circuit.graph_files import check_signs, cut, graph_at
    from circuitkit.commands.sfn.telling import check_folder

    rule = (selection or Selection()).checked()
    if min(controls, sets, most_parts) < 0:
        raise ValueError("--controls, --sets and --most-parts are counts: give 0 for none, or more")
    check_signs([graph], positive, rule)
    check_folder(out)
    chosen = prompts or PairsFrom()
    loaded, pairs = load_with_pairs(model, load_as, chosen)
    circuit = cut(graph_at(graph, positive, loaded), rule)
    measured = metric_of(metric_name(metric, pairs), loaded)
    settings = Settings(measured, ablation, sizes, rule.select, rule.prune, controls, sets, parts, most_parts)
    found = Evaluating.of(loaded, circuit, pairs, settings, chosen.seed, drawn=chosen.pairs is None)
    found.write(out)
    found.tell(out)
