"""Attention patching: which edge of attention, from which tokens to which, carries the answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as with_fields
from itertools import product
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from circuitkit import metrics
from circuitkit.attention.interventions import force
from circuitkit.metrics import Compute, Metric, Targets, as_metric
from circuitkit.model.site import Site, SiteError
from circuitkit.model.tokens import Prompts, Tokens
from circuitkit.pairs import AlignedPairs, Pairs, Reading
from circuitkit.records import provenance
from circuitkit.results import Baseline, Direction, Result
from circuitkit.run.executor import logits_read, measure
from circuitkit.run.interventions import Interventions, Rows, between, knockout, replace
from circuitkit.spans import Span

if TYPE_CHECKING:
    from circuitkit.model.model import Model

Places = Literal["each", "all"] | Iterable[int] | Mapping[str, Span]
"""One side of an edge: each position by itself, all together, some positions, or spans by name."""


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
            by name, found in the clean prompts. Only the last two suit pairs of different lengths.
        seed: of the statistics, which draw.
        progress: show a bar over the cells.

    Returns:
        A result with the axes `("layer", "head", "query", "key")`, or those of them that were asked for: for one layer
        and one head the edge map `("query", "key")`. Edges to later tokens, and heads that a layer lacks, are NaN.

    Raises:
        SiteError: a layer or head does not exist.
        PairError: the pairs cannot be aligned, or have no common positions.
        SpanError: a clean prompt lacks a span.

    >>> pairs = ck.Pairs(["Alex is a wumpus. Alex is a"], ["Alex is a lempus. Alex is a"], [" wumpus"], [" lempus"])
    >>> result = transplant(ck.load("deductor-130k"), pairs, layers=1, heads=2, keys=[3], progress=False)
    >>> result.axes, tuple(result.values.shape)
    (('query', 'key'), (8, 1))
    """
    if direction not in ("denoise", "noise"):
        raise ValueError(f"direction is 'denoise' or 'noise', not {direction!r}")
    metric, aligned = as_metric(metric), pairs.on(model)
    query_side, key_side = (_Side.of(model, pairs, aligned, each) for each in (queries, keys))
    layer_at, head_at = _named(model, layers, heads)
    base, source = (aligned.corrupt, aligned.clean) if direction == "denoise" else (aligned.clean, aligned.corrupt)
    read = Reading.of(source, aligned.targets, metric).tokens
    kept = model.run(read, capture=[Site("pattern", layer=layer) for layer in layer_at], logits_at=-1).cache
    cells: dict[tuple[int, ...], Interventions] = {}
    for (i, layer), (j, head) in product(enumerate(layer_at), enumerate(head_at)):
        if head >= model.n_heads(layer):
            continue
        site = Site("pattern", layer=layer, head=head)
        moved = replace(site, kept[site])
        for k, m in _edges(query_side, key_side):
            cells[i, j, k, m] = [between(moved, query_side.rows[k], key_side.rows[m])]
    axes = {
        "layer": None if isinstance(layers, int) else layer_at,
        "head": None if isinstance(heads, int) else head_at,
        "query": query_side.names,
        "key": key_side.names,
    }
    return _result(
        model,
        base,
        aligned.targets,
        metric,
        axes,
        cells,
        ends=(aligned.clean, aligned.corrupt),
        labels={"query": query_side.labels, "key": key_side.labels},
        direction=direction,
        groups=aligned.groups,
        seed=seed,
        title=f"Transplanting attention ({direction}), {model.name}",
        study="attention.transplant",
        progress=progress,
    )


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
    clean, targets, groups = _read(model, prompts)
    if metric is None:
        metric = metrics.kl if targets.distractor is None else metrics.logit_difference
    side = _Side.of_spans(model, prompts.clean if isinstance(prompts, Pairs) else prompts, spans)
    where = _attending(model, layers, heads, by_head=per == "head")
    layer_at = None if per == "model" else list(dict.fromkeys(layer for layer, _ in where))
    head_at = None if per != "head" else sorted({head for _, head in where if head is not None})
    cells: dict[tuple[int, ...], Interventions] = {}
    for (i, layer), (j, head) in product(enumerate(layer_at or [None]), enumerate(head_at or [None])):
        here = [at for at in where if layer in (None, at[0]) and head in (None, at[1])]
        for k, m in _edges(side, side) if here else ():
            query, key = side.rows[k], side.rows[m]
            if how == "knockout":
                cells[i, j, k, m] = [knockout(*at, queries=query, keys=key) for at in here]
            else:
                cells[i, j, k, m] = [force(*at, queries=query, keys=key, weight=weight) for at in here]
    return _result(
        model,
        clean,
        targets,
        as_metric(metric),
        {"layer": layer_at, "head": head_at, "query": side.names, "key": side.names},
        cells,
        ends=(clean,),
        labels={},
        direction="ablate",
        groups=groups,
        seed=seed,
        title=f"{'Cutting' if how == 'knockout' else 'Forcing'} attention between spans, {model.name}",
        study="attention.edges",
        progress=progress,
    )


@dataclass(frozen=True)
class _Side:
    """One side of the edges: for each entry, the positions of each row.

    Attributes:
        names: what the entries are called; None where the side has no axis.
        rows: the positions; None for all.
        labels: how the entries are shown.
    """

    names: tuple[int | str, ...] | None
    rows: tuple[Rows | None, ...]
    labels: tuple[str, ...] | None = None

    @classmethod
    def of(cls, model: Model, pairs: Pairs, aligned: AlignedPairs, places: Places) -> _Side:
        if isinstance(places, Mapping):
            return cls.of_spans(model, pairs.clean, places)
        if places == "all":
            return cls(None, (None,))
        if isinstance(places, str) and places != "each":
            raise ValueError(f"an edge's side is 'each', 'all', positions, or spans by name, not {places!r}")
        labels = aligned.labels(model) if places == "each" else None
        named = list(range(len(labels))) if labels is not None else [int(position) for position in places]
        rows = tuple(tuple(Span.at(position).positions(model, aligned.clean)) for position in named)
        return cls(tuple(named), rows, labels)

    @classmethod
    def of_spans(cls, model: Model, prompts: Prompts, spans: Mapping[str, Span]) -> _Side:
        if not spans:
            raise ValueError("there are no spans: name one at least, such as {'question': Span.of_role('question')}")
        return cls(tuple(spans), tuple(tuple(span.positions(model, prompts)) for span in spans.values()))


def _edges(queries: _Side, keys: _Side) -> Iterator[tuple[int, int]]:
    """The edges that at least one row has: some query is not before some key."""
    for (k, query), (m, key) in product(enumerate(queries.rows), enumerate(keys.rows)):
        if query is None or key is None or any(max(q) >= min(p) for q, p in zip(query, key, strict=True)):
            yield k, m


def _named(
    model: Model, layers: int | Iterable[int] | None, heads: int | Iterable[int] | None
) -> tuple[list[int], list[int]]:
    """Layers and heads that a study goes over, checked to exist; some layers may lack some of the heads."""
    given = model.layers_with("pattern") if layers is None else [layers] if isinstance(layers, int) else layers
    sites = [site for layer in given for site in model.sites(Site("pattern", layer=layer))]
    at = [int(site.layer or 0) for site in sites]
    if not at:
        raise SiteError(f"{model.name} has no layers to patch attention in")
    count = max(model.n_heads(layer) for layer in at)
    if heads is None:
        return at, list(range(count))
    named = [heads] if isinstance(heads, int) else list(heads)
    for head in named:
        if not 0 <= head < count:
            raise SiteError(f"head {head} does not exist: layers {at} have heads 0 to {count - 1}")
    return at, named


def _attending(
    model: Model, layers: Iterable[int] | None, heads: Iterable[tuple[int, int]] | None, *, by_head: bool
) -> list[tuple[int, int | None]]:
    """Where attention is changed: whole layers, or heads."""
    if layers is not None and heads is not None:
        raise ValueError("name layers or heads, not both")
    if heads is not None:
        named = [model.sites(Site("pattern", layer=layer, head=head))[0] for layer, head in heads]
        return [(int(site.layer or 0), site.head) for site in named]
    at, _ = _named(model, layers, None)
    if not by_head:
        return [(layer, None) for layer in at]
    return [(layer, head) for layer in at for head in range(model.n_heads(layer))]


def _read(model: Model, prompts: Prompts | Pairs) -> tuple[Tokens, Targets, Tensor | None]:
    if isinstance(prompts, Pairs):
        aligned = prompts.on(model)
        return aligned.clean, aligned.targets, aligned.groups
    tokens = model.tokens(prompts)
    return tokens, Targets(model.run(tokens, logits_at=-1).logits.argmax(-1, keepdim=True)), None


def _result(
    model: Model,
    base: Tokens,
    targets: Targets,
    metric: Metric,
    axes: Mapping[str, Sequence[int | str] | None],
    cells: Mapping[tuple[int, ...], Interventions],
    *,
    ends: tuple[Tokens, ...],
    labels: Mapping[str, tuple[str, ...] | None],
    direction: Direction,
    groups: Tensor | None,
    seed: int,
    title: str,
    study: str,
    progress: bool,
) -> Result:
    """Measure the cells, by their places along all axes, and lay them out along those that have names."""
    clean = ends[0]
    if metric.needs_clean:
        targets = with_fields(targets, clean_logits=logits_read(model, clean, targets, metric))
    baseline = Baseline(*(measure(model, end, targets, metric, [[]], progress=False)[0] for end in ends))
    values = measure(model, base, targets, metric, list(cells.values()), title=study, progress=progress)
    sizes = [1 if names is None else len(names) for names in axes.values()]
    whole = torch.full((*sizes, len(base)), torch.nan, dtype=values.dtype)
    for at, value in zip(cells, values, strict=True):
        whole[at] = value
    kept = {axis: tuple(names) for axis, names in axes.items() if names is not None}
    return Result(
        per_example=whole.view(*(len(names) for names in kept.values()), len(base)),
        axes=tuple(kept),
        baseline=baseline,
        direction=direction,
        metric=metric.name,
        unit=metric.unit,
        title=title,
        coordinates=kept,
        labels={axis: shown for axis, shown in labels.items() if shown is not None and axis in kept},
        groups=groups,
        seed=seed,
        provenance=provenance(
            model_name=model.name,
            revision=model.revision,
            data=[*(end.ids for end in ends), targets.answer],
            seed=seed,
            study=study,
        ),
    )
