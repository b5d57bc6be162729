"""`circuitkit circuit find MODEL`: every edge scored, and the circuit cut out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from circuitkit.commands.circuit.options import MEASURES, Ablation, Scoring, Selection
from circuitkit.commands.loading import LoadAs
from circuitkit.commands.options import MetricName
from circuitkit.commands.prompts import PROMPTS, PairsFrom


def find(
    model: str,
    *,
    scoring: Scoring | None = None,
    selection: Selection | None = None,
    metric: MetricName | None = None,
    ablation: Ablation = "patch",
    resamples: Annotated[int, Parameter(group=MEASURES)] = 100,
    random: Annotated[int, Parameter(group=MEASURES)] = 20,
    prompts: PairsFrom | None = None,
    test_pairs: Annotated[Path | None, Parameter(group=PROMPTS)] = None,
    out: Path = Path("circuit"),
    load_as: LoadAs | None = None,
) -> None:
    """Find a circuit: score every edge between heads and MLPs, keep the strongest, and tell how far to trust it.

    ```
    circuitkit circuit find deductor-130k --top 40
    circuitkit circuit find deductor-130k --method exact --threshold 0.1
    circuitkit circuit find gpt2 --task indirect-objects --share 0.02 --by signed
    ```

    Parameters
    ----------
    model
        An embedded model (deductor-130k), a folder, or a hub id.
    metric
        What is measured; the logit difference of pairs with a distractor if not given, the KL from the clean run else.
    ablation
        What the edges outside the circuit carry. patch: what they carry in the corrupt run. mean: their mean. zero:
        nothing.
    resamples
        How many times the pairs are drawn anew to see whether the same circuit comes out.
    random
        How many random circuits of as many edges are run beside it.
    test_pairs
        Pairs to measure the circuit on, as JSON lines. If not given, fresh ones are drawn where pairs are drawn, and
        those of --pairs are used again, which flatters the circuit.
    out
        Folder for the graph (safetensors), tables (CSV), figures (PNG) and provenance (JSON).
    """
    from circuitkit.commands.circuit.finding import found, told, written

    study = found(model, scoring, selection, metric, ablation, resamples, random, prompts, test_pairs, load_as)
    written(study, out)
    told(study, out)
