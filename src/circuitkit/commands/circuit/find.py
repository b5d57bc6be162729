"""`circuitkit circuit find MODEL`: every edge scored, and the circuit cut out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from circuitkit.commands.circuit.options import MEASURES, Ablation, Scoring, Selection, metric_name
from circuitkit.commands.loading import LoadAs, load
from circuitkit.commands.options import MetricName, metric_of
from circuitkit.commands.prompts import PROMPTS, PairsFrom, pairs_in, pairs_of


def find(
    model: str,
    *,
    scoring: Scoring | None = None,
    selection: Selection | None = None,
    metric: MetricName | None = None,
    ablation: Ablation = "patch",
    resamples: Annotated[int, Parameter(group=MEASURES)] = 100,
    controls: Annotated[int, Parameter(group=MEASURES)] = 20,
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
        How many times the pairs are drawn anew to see whether the same circuit comes out; 0 for none.
    controls
        How many random circuits, with as many edges, are run beside it.
    test_pairs
        Pairs to measure the circuit on, as JSON lines. If not given, fresh ones are drawn where pairs are drawn; those
        of --pairs are used again, which flatters the circuit.
    out
        Folder for the graph (safetensors), tables (CSV), figures (PNG) and provenance (JSON).
    """
    from circuitkit import circuits
    from circuitkit.commands.circuit.finding import Finding, check_found, test_of
    from circuitkit.commands.sfn.telling import check_folder

    settings, rule = (scoring or Scoring()).settings(), (selection or Selection()).checked()
    chosen = (prompts or PairsFrom()).checked()
    check_folder(out)
    given, tested = pairs_in(chosen.pairs), pairs_in(test_pairs)
    loaded = load(model, load_as)
    draw = pairs_of(loaded, given, chosen.n, chosen.task, chosen.template)
    pairs = draw(chosen.seed)
    measured = metric_of(metric_name(metric, pairs), loaded)
    scored = circuits.attribute(loaded, pairs, measured, seed=chosen.seed, **settings)
    choice = rule.choice(scored.layout.n_edges)
    circuit = choice.of(scored)
    # Scores may have taken hours, and are kept whatever comes of the circuit.
    circuit.save(out / "graph.safetensors")
    check_found(circuit, choice, out)
    test = test_of(draw, chosen.seed, tested, given)
    finding = Finding.of(loaded, circuit, choice, test, measured, ablation, resamples, controls, chosen.seed)
    finding.write(out)
    finding.tell(out)
