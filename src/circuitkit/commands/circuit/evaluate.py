"""`circuitkit circuit evaluate MODEL GRAPH`: circuits of every size, run alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from circuitkit.commands.circuit.options import MEASURES, Ablation, Selection
from circuitkit.commands.loading import LoadAs
from circuitkit.commands.options import MetricName
from circuitkit.commands.prompts import PairsFrom

_Sizes = Annotated[list[float] | None, Parameter(group=MEASURES, negative="", consume_multiple=True)]


def evaluate(
    model: str,
    graph: Path,
    *,
    sizes: _Sizes = None,
    selection: Selection | None = None,
    metric: MetricName | None = None,
    ablation: Ablation = "patch",
    random: Annotated[int, Parameter(group=MEASURES)] = 10,
    prompts: PairsFrom | None = None,
    out: Path = Path("evaluation"),
    load_as: LoadAs | None = None,
) -> None:
    """Run circuits of every size alone, and measure how much of the behaviour each has.

    ```
    circuitkit circuit evaluate deductor-130k circuit/graph.safetensors --seed 1
    circuitkit circuit evaluate gpt2 ioi-eap-ig.json --task indirect-objects
    ```

    Parameters
    ----------
    model
        The model that the graph is of: an embedded one (deductor-130k), a folder, or a hub id.
    graph
        A graph that "circuitkit circuit find" wrote (safetensors), or one of the EAP-IG reference code (JSON).
    sizes
        Shares of all edges, such as 0.01 0.1 1; those of MIB (0.001 to 1) if not given.
    metric
        What is measured; the logit difference of pairs with a distractor if not given, the KL from the clean run else.
    ablation
        What the edges outside a circuit carry. patch: what they carry in the corrupt run. mean: their mean. zero:
        nothing.
    random
        How many random circuits of each size to run beside them.
    out
        Folder for curves (safetensors), tables (CSV), figures (PNG) and provenance (JSON).
    """
    from circuitkit.commands.circuit.evaluating import evaluated, told, written

    study = evaluated(model, graph, sizes, selection, metric, ablation, random, prompts, load_as)
    written(study, out)
    told(study, out)
