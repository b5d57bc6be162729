"""Attention patching: which edge of attention, moved between a clean and a corrupt run, moves the answer."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import TYPE_CHECKING, Literal

from circuitkit import metrics
from circuitkit.attention.alignment import pairs_on, source_patterns
from circuitkit.attention.sides import Places, edges_between, laid_out, layers_and_heads
from circuitkit.metrics import Compute, Metric
from circuitkit.model.site import Site
from circuitkit.pairs import Pairs
from circuitkit.results import Result
from circuitkit.run.interventions import Interventions, between, replace
from circuitkit.study import Study

if TYPE_CHECKING:
    from circuitkit.model.model import Model


def transplant(
    model: Model,
    pairs: Pairs,
    metric: Metric | Compute | str = metrics.logit_difference,
    direction: Literal["denoise", "noise"] = "denoise",
    *,
    layers: int | Iterable[int] | None = None,
    heads: int | Iterable[int] | None = None,
    queries: Places = "each",
    keys: Places = "each",
    seed: int = 0,
    progress: bool = True,
) -> Result:
    """Move parts of attention patterns between a clean and a corrupt run, values being computed anew.

    A cell puts a head's attention from some queries to some keys as it was in the other run. Nothing else in the row
    is changed, so that it may no longer sum to 1; `force` with each row's weight keeps the sum.

    Args:
        model: the model.
        pairs: prompts and answers.
        metric: what is measured; in its own unit.
        direction: "denoise" patches the corrupt run from the clean one; "noise" the other way round.
        layers, heads: which; all if None. One number has no axis in the result.
        queries, keys: each position by itself ("each"), all of them together ("all", no axis), some positions, or spans
            by name. Only the last two suit pairs of different lengths. Where both sides are spans, these are found in
            each prompt of a pair, correspond token by token wherever they stand, and the two prompts may differ in
            length; otherwise spans are found in the clean prompts, and attention is moved position by position. An
            edge that the other prompt lacks, its key behind its query, is moved as no attention.
        seed: of the statistics, which draw.
        progress: show a bar over the cells.

    Returns:
        A result with the axes `("layer", "head", "query", "key")`, or those of them that were asked for: for one layer
        and one head the edge map `("query", "key")`. Edges to later tokens, and heads that a layer lacks, are NaN.

    Raises:
        SiteError: a layer or head does not exist, or is named twice.
        PairError: the pairs cannot be aligned, or have no common positions.
        SpanError: a prompt lacks a span, or has it in another number of tokens than the other of its pair.

    >>> pairs = ck.Pairs(["Alex is a wumpus. Alex is a"], ["Alex is a lempus. Alex is a"], [" wumpus"], [" lempus"])
    >>> result = transplant(ck.load("deductor-130k"), pairs, layers=1, heads=2, keys=[3], progress=False)
    >>> result.axes, tuple(result.values.shape)
    (('query', 'key'), (8, 1))
    """
    layer_at, head_at = layers_and_heads(model, layers, heads)
    places = [Site("pattern", layer=layer) for layer in layer_at]
    study = Study.of_pairs(model, pairs_on(model, pairs, queries, keys), metric, direction)
    query_side, key_side, patterns = source_patterns(study, pairs, places, queries, keys)
    cells: dict[tuple[int, ...], Interventions] = {}
    for (i, layer), (j, head) in product(enumerate(layer_at), enumerate(head_at)):
        if head >= model.n_heads(layer):
            continue
        moved = replace(Site("pattern", layer=layer, head=head), patterns[Site("pattern", layer=layer)][:, head])
        for k, m in edges_between(query_side, key_side):
            cells[i, j, k, m] = [between(moved, query_side.rows[k], key_side.rows[m])]
    axes = {
        "layer": None if isinstance(layers, int) else layer_at,
        "head": None if isinstance(heads, int) else head_at,
        "query": query_side.names,
        "key": key_side.names,
    }
    values = study.measured(list(cells.values()), "transplanting attention", progress)
    per_example, coordinates = laid_out(values, axes, cells)
    labels = {"query": query_side.labels, "key": key_side.labels}
    return study.result(
        per_example,
        tuple(coordinates),
        f"Transplanting attention ({direction})",
        seed,
        coordinates=coordinates,
        labels={axis: shown for axis, shown in labels.items() if shown is not None},
        study="attention.transplant",
    )
