"""`circuitkit circuit compare BASE POST`: which heads post-training made active, and how sure that is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from circuitkit.commands.circuit.graph_files import Sign
from circuitkit.commands.circuit.options import MEASURES, Scoring, Selection
from circuitkit.commands.loading import LoadAs
from circuitkit.commands.options import MetricName
from circuitkit.commands.prompts import PROMPTS, PairsFrom

_COMPARED = Group("What is compared", sort_key=-1)


def compare(
    base: Annotated[str, Parameter(group=_COMPARED)],
    post: Annotated[str, Parameter(group=_COMPARED)],
    /,
    *more: Annotated[str, Parameter(group=_COMPARED)],
    scoring: Scoring | None = None,
    selection: Selection | None = None,
    positive: Sign = "unknown",
    metric: MetricName | None = None,
    openings: Annotated[Literal["written", "proofs"] | None, Parameter(group=PROMPTS)] = None,
    problems: Annotated[Path | None, Parameter(group=PROMPTS)] = None,
    opening_tokens: Annotated[int, Parameter(group=PROMPTS)] = 8,
    prompts: PairsFrom | None = None,
    resamples: Annotated[int, Parameter(group=MEASURES)] = 100,
    out: Path = Path("comparison"),
    load_as: LoadAs | None = None,
) -> None:
    """Compare the circuits of a base and a post-trained model: heads that emerged, stayed and were lost.

    Takes graphs that "circuitkit circuit find" wrote, or models, of which both circuits are found first, on the same
    pairs. Beside each emergent head stands how often it is so when problems are drawn anew, and beside their number
    that between two samples of the same model, which is what noise alone makes emerge. Given further checkpoints, heads
    are followed over all of them. A file's own circuit is compared if none is selected; what is uncut is cut to 5 % of
    its edges.

    ```
    circuitkit circuit compare base/graph.safetensors post/graph.safetensors
    circuitkit circuit compare deductor-130k-base deductor-130k --top 40
    circuitkit circuit compare deductor-130k-base deductor-130k --top 40 \\
        --openings written
    circuitkit circuit compare deductor-130k-base deductor-130k-step600 \\
        deductor-130k-step4000 --top 40
    ```

    Parameters
    ----------
    base
        The base: a graph (safetensors, its folder, or JSON of the EAP-IG reference code), or a model: an embedded one,
        a folder, or a hub id.
    post
        The post-trained one, of the same kind.
    more
        Later checkpoints, in order, of which POST is then the first: heads are followed over all, and the last is
        compared with the base. Steps are read off their names (step600), or counted where not each has one.
    positive
        Of JSON graphs, which do not tell: what a score above zero says. lowers: corrupting the edge lowers the metric.
        raises: corrupting it raises the metric. unknown: then edges can be taken by magnitude alone.
    metric
        Of models: what is measured; the logit difference of pairs with a distractor if not given, the KL else.
    openings
        Of models: compare them as "Thinking Sparks" does, by pairs of a thinking and a direct opening behind the same
        problem, and the KL of the next token. written: both models write theirs (the last its thinking one, the base
        its direct one). proofs: the problem's proof against " True", for the embedded models.
    problems
        Of openings: problems as text, one a line; deductions are drawn (--n, --seed) if not given.
    opening_tokens
        Of openings: how many tokens of each are kept at most.
    resamples
        How many times problems are drawn anew, to see how sure each head is; 0 for none.
    out
        Folder for graphs, curves and changes (safetensors), tables (CSV), figures (PNG, SVG) and provenance (JSON).
    """
    from circuitkit.commands.circuit.comparing import Compared, curves_beside, graphs_of
    from circuitkit.commands.circuit.graph_files import check_signs
    from circuitkit.commands.sfn.telling import check_folder

    rule, chosen = (selection or Selection()).checked(), (prompts or PairsFrom()).checked()
    if resamples < 0 or resamples == 1:
        raise ValueError(f"--resamples {resamples} has nothing to compare: give 2 or more, such as 100, or 0 for none")
    check_signs((base, post, *more), positive, rule)
    check_folder(out)
    graphs = graphs_of(
        (base, post, *more),
        scoring,
        positive,
        metric,
        openings,
        problems,
        opening_tokens,
        chosen,
        load_as,
    )
    found = Compared.of(graphs, rule, resamples, chosen.seed)
    found.write(out, curves_beside((base, post, *more), graphs))
    found.tell(out)
