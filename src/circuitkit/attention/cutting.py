"""Attention between spans, cut or forced: which tokens have to be attended to from which."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product
from typing import TYPE_CHECKING, Literal

from circuitkit.attention.interventions import force
from circuitkit.attention.sides import Side, edges_between, laid_out, layers_and_heads
from circuitkit.metrics import Compute, Metric
from circuitkit.model.site import Site
from circuitkit.model.tokens import Prompts
from circuitkit.pairs import Pairs
from circuitkit.results import Result
from circuitkit.run.interventions import Interventions, knockout
from circuitkit.spans import Span
from circuitkit.study import Study

if TYPE_CHECKING:
    from circuitkit.model.model import Model


def edges(
    model: Model,
    prompts: Prompts | Pairs,
    spans: Mapping[str, Span],
    metric: Metric | Compute | str | None = None,
    *,
    layers: Iterable[int] | None = None,
    heads: Iterable[tuple[int, int]] | None = None,
    per: Literal["model", "layer", "head"] = "model",
    how: Literal["knockout", "force"] = "knockout",
    weight: float = 1.0,
    seed: int = 0,
    progress: bool = True,
) -> Result:
    """Cut, or force, attention from each span to each: the span by span map of what it does to the answer.

    Args:
        model: the model.
        prompts: pairs, whose clean prompts and answers are used; or prompts alone, whose answer is then the model's
            own most likely next token.
        spans: by the names that the result has for them; each row has its own positions.
        metric: by default the logit difference of pairs with a distractor, otherwise the KL from the clean run.
        layers: in which layers; all that have attention if None.
        heads: in which `(layer, head)` alone, instead of whole layers.
        per: all layers together ("model"), or each layer or head by itself.
        how: "knockout" forbids the attention, the other keys sharing it; "force" puts it there, see `attention.force`.
        weight: how much is forced.
        seed: of the statistics, which draw.
        progress: show a bar over the cells.

    Returns:
        A result with the axes `("query", "key")`, behind `"layer"` and `"head"` where they are kept apart. An edge
        that no prompt has, its keys all behind its queries, is NaN; in a prompt that lacks it nothing changes. A span
        to itself includes each token's attention to itself.

    Raises:
        SiteError: a layer or head does not exist.
        SpanError: a prompt lacks a span.

    Source: Geva et al. 2023, arXiv 2304.14767 (attention knock-out).

    >>> spans = {"rule": Span.of_text("Every wumpus is a dumpus"), "last": Span.at(-1)}
    >>> prompt = "Every wumpus is a dumpus. Fae is a wumpus. Fae is a"
    >>> result = edges(ck.load("deductor-130k"), [prompt], spans, progress=False)
    >>> result.values.isnan().tolist()
    [[False, True], [False, False]]
    """
    if per not in ("model", "layer", "head"):
        raise ValueError(f"per is 'model', 'layer' or 'head', not {per!r}")
    if how not in ("knockout", "force"):
        raise ValueError(f"how is 'knockout' or 'force', not {how!r}")
    study = Study.of_prompts(model, prompts, metric)
    side = Side.of_spans(model, prompts.clean if isinstance(prompts, Pairs) else prompts, spans)
    where = _attending(model, layers, heads, by_head=per == "head")
    layer_at = None if per == "model" else list(dict.fromkeys(layer for layer, _ in where))
    head_at = None if per != "head" else sorted({head for _, head in where if head is not None})
    cells: dict[tuple[int, ...], Interventions] = {}
    for (i, layer), (j, head) in product(enumerate(layer_at or [None]), enumerate(head_at or [None])):
        here = [at for at in where if layer in (None, at[0]) and head in (None, at[1])]
        for k, m in edges_between(side, side) if here else ():
            query, key = side.rows[k], side.rows[m]
            if how == "knockout":
                cells[i, j, k, m] = [knockout(*at, queries=query, keys=key) for at in here]
            else:
                cells[i, j, k, m] = [force(*at, queries=query, keys=key, weight=weight) for at in here]
    title = f"{'Cutting' if how == 'knockout' else 'Forcing'} attention between spans"
    values = study.measured(list(cells.values()), title, progress)
    axes = {"layer": layer_at, "head": head_at, "query": side.names, "key": side.names}
    per_example, coordinates = laid_out(values, axes, cells)
    return study.result(
        per_example,
        tuple(coordinates),
        title,
        seed,
        coordinates=coordinates,
        study="attention.edges",
        per=per,
        how=how,
    )


def _attending(
    model: Model, layers: Iterable[int] | None, heads: Iterable[tuple[int, int]] | None, *, by_head: bool
) -> list[tuple[int, int | None]]:
    """Where attention is changed: whole layers, or heads."""
    if layers is not None and heads is not None:
        raise ValueError("name layers or heads, not both")
    if heads is not None:
        named = [model.sites(Site("pattern", layer=layer, head=head))[0] for layer, head in heads]
        return [(int(site.layer or 0), site.head) for site in named]
    at, _ = layers_and_heads(model, layers, None)
    if not by_head:
        return [(layer, None) for layer in at]
    return [(layer, head) for layer in at for head in range(model.n_heads(layer))]
