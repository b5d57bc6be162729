"""`circuitkit circuit find MODEL`: every edge scored, and the circuit cut out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from circuitkit.commands.circuit.options import MEASURES, SCORES, Ablation, Scoring, Selection, metric_name
from circuitkit.commands.loading import LoadAs, load
from circuitkit.commands.options import MetricName, metric_of
from circuitkit.commands.prompts import PROMPTS, PairsFrom, pairs_in, pairs_of

if TYPE_CHECKING:
    from circuitkit import circuits
    from circuitkit.circuits.evaluating.choosing import Choice
    from circuitkit.model import Model


def find(
    model: str,
    *,
    scoring: Scoring | None = None,
    edges_of: Annotated[Path | None, Parameter(group=SCORES)] = None,
    selection: Selection | None = None,
    metric: MetricName | None = None,
    ablation: Ablation = "patch",
    resamples: Annotated[int, Parameter(group=MEASURES)] = 100,
    controls: Annotated[int, Parameter(group=MEASURES)] = 20,
    curve: Annotated[bool, Parameter(group=MEASURES)] = True,
    prompts: PairsFrom | None = None,
    test_pairs: Annotated[Path | None, Parameter(group=PROMPTS)] = None,
    out: Path = Path("circuit"),
    load_as: LoadAs | None = None,
) -> None:
    """Find a circuit: score every edge between heads and MLPs, keep the strongest, and tell how far to trust it.

    ```
    circuitkit circuit find deductor-130k --top 40
    circuitkit circuit find deductor-130k --method exact --threshold 0.1
    circuitkit circuit find deductor-130k --method exact --edges-of circuit/graph.safetensors --out exact
    circuitkit circuit find gpt2 --task indirect-objects --share 0.02 --by signed
    ```

    Parameters
    ----------
    model
        An embedded model (deductor-130k), a folder, or a hub id.
    edges_of
        With --method exact: a graph that find wrote, whose circuit's edges alone are patched, since to patch all of a
        large model's takes days. All of them are kept if not told how many; --share stays one of the whole model's.
    metric
        What is measured; the logit difference of pairs with a distractor if not given, the KL from the clean run else.
    ablation
        What the edges outside the circuit carry. patch: what they carry in the corrupt run. mean: their mean. zero:
        nothing.
    resamples
        How many times the pairs are drawn anew to see whether the same circuit comes out; 0 for none.
    controls
        How many random circuits, with as many edges, are run beside it.
    curve
        Run circuits of other sizes too, from 0.1 % of the edges to all, with a quarter as many random ones beside each.
    test_pairs
        Pairs to measure the circuit on, as JSON lines. If not given, fresh ones are drawn where pairs are drawn; those
        of --pairs are used again, which flatters the circuit.
    out
        Folder for the graph (safetensors), tables (CSV), figures (PNG, SVG) and provenance (JSON).
    """
    from circuitkit import circuits
    from circuitkit.commands.circuit.finding import Finding, check_found, test_of
    from circuitkit.commands.sfn.telling import check_folder

    settings, rule = (scoring or Scoring()).settings(), (selection or Selection()).checked()
    chosen = (prompts or PairsFrom()).checked()
    if resamples < 0 or resamples == 1:
        raise ValueError(f"--resamples {resamples} has nothing to compare: give 2 or more, such as 100, or 0 for none")
    if controls < 0:
        raise ValueError(f"--controls {controls} is a count: give 0 for none, or more")
    check_folder(out)
    _check_edges_of(edges_of, str(settings["method"]), out)
    given, tested = pairs_in(chosen.pairs), pairs_in(test_pairs)
    loaded = load(model, load_as)
    draw = pairs_of(loaded, given, chosen.n, chosen.task, chosen.template)
    pairs = draw(chosen.seed)
    measured = metric_of(metric_name(metric, pairs), loaded)
    edges = None if edges_of is None else _edges_in(edges_of, loaded)
    scored = circuits.attribute(loaded, pairs, measured, edges=edges, seed=chosen.seed, **settings)
    if not scored.scores.any():
        raise ValueError(
            f"every edge scores 0 for {measured.name}: {loaded.name} reads clean and corrupt prompts alike, or the "
            "metric does not tell them apart; nothing is written"
        )
    choice, circuit = _cut(scored, rule, edges_of)
    _clear(out)
    # Scores may have taken hours, and are kept whatever comes of the circuit.
    circuit.save(out / "graph.safetensors")
    check_found(circuit, choice, out)
    test = test_of(draw, chosen.seed, tested, given)
    sure = (resamples, controls, chosen.seed, edges_of)
    finding = Finding.of(loaded, circuit, choice, test, measured, ablation, *sure, sizes=curve)
    finding.write(out)
    finding.tell(out)


def _clear(out: Path) -> None:
    """Remove what an earlier call wrote into a folder, which would be of another graph than the new one."""
    names = [f"{name}.csv" for name in ("circuit", "heads", "faithfulness", "summary")]
    names += [f"{name}.{end}" for name in ("circuit", "heads", "stability", "curve") for end in ("png", "svg")]
    names += [f"{name}.safetensors" for name in ("stability", "faithfulness", "curve")]
    for name in (*names, "provenance.json"):
        (out / name).unlink(missing_ok=True)


def _check_edges_of(edges_of: Path | None, method: str, out: Path) -> None:
    """Refuse a choice of edges that the method cannot make, and a graph that would be written over.

    Raises:
        ValueError: either of it.
    """
    if edges_of is None:
        return
    if method != "exact":
        raise ValueError(f"--method {method} scores all edges at once, so --edges-of goes with --method exact alone")
    if (out / "graph.safetensors").resolve() in (edges_of.resolve(), (edges_of / "graph.safetensors").resolve()):
        raise ValueError(f"{edges_of} would be written over by what is found: give another folder, such as --out exact")


def _edges_in(file: Path, model: Model) -> circuits.Graph:
    """A graph whose circuit says which edges to score.

    Raises:
        ValueError: it is no graph of such a model, or holds no circuit.
    """
    from circuitkit.commands.circuit.graph_files import graph_at, is_uncut

    graph = graph_at(file, model=model)
    if is_uncut(graph) or not graph.size:
        held = "every edge, so none would be left out" if graph.size else "no edge"
        raise ValueError(f"the circuit in {file} has {held}: cut one out with circuitkit circuit find --top")
    return graph


def _cut(scored: circuits.Graph, rule: Selection, edges_of: Path | None) -> tuple[Choice, circuits.Graph]:
    """The rule, and the circuit; of the scored edges alone where others have no scores, all of them unless told."""
    choice = rule.choice(scored.layout.n_edges)
    if edges_of is None:
        return choice, choice.of(scored)
    choice = choice if rule.named else replace(choice, n=scored.size)
    return choice, choice.within(scored)
