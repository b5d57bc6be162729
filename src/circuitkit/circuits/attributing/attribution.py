"""Attribution: a score for every edge of a decoder, from gradients."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import TYPE_CHECKING, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from tqdm.auto import tqdm

from circuitkit import metrics
from circuitkit.circuits.attributing.alignment import Align, Aligned
from circuitkit.circuits.attributing.methods import METHODS, Batch, Method, Settings, alphas
from circuitkit.circuits.attributing.passes import frozen_weights
from circuitkit.circuits.errors import CircuitError
from circuitkit.circuits.graphs.checking import checked_members
from circuitkit.circuits.graphs.convention import Convention, OverExamples, OverPositions, Rule
from circuitkit.circuits.graphs.graph import Graph
from circuitkit.circuits.graphs.layout import Layout
from circuitkit.metrics import Compute, Metric, as_metric
from circuitkit.pairs import Pairs
from circuitkit.records import provenance
from circuitkit.run.memory import memory, some_at_a_time
from circuitkit.run.session import check_dropout
from circuitkit.spans import Span, SpanError

if TYPE_CHECKING:
    from circuitkit.model.model import Model

_KEPT_BYTES = 1 << 28
_TOKENS_AT_ONCE_ON_CPU = 1024


def attribute(
    model: Model,
    pairs: Pairs,
    metric: Metric | Compute | str = metrics.logit_difference,
    method: str = "eap-ig",
    *,
    steps: int = 5,
    rule: Rule = "left",
    examples: OverExamples = "mean",
    positions: OverPositions = "sum",
    spans: Mapping[str, Span] | None = None,
    align: Align = "tokens",
    edges: Bool[Tensor, "sources destinations"] | Graph | None = None,
    batch_size: int | None = None,
    keep_examples: bool | None = None,
    checkpointing: bool = False,
    seed: int = 0,
    progress: bool = True,
) -> Graph:
    """Score every edge between a decoder's heads and MLPs: by how much corrupting it alone would lower the metric.

    A score is the mean over examples and the sum over positions of (what the source writes in the corrupt run, less
    what it writes in the clean run) times the gradient of minus the metric at what the destination reads. Of a metric
    of which less is better (KL, cross-entropy), edges that help score below zero.

    Args:
        model: the model.
        pairs: clean and corrupt prompts.
        metric: what is measured, by name or as a function.
        method: "eap" takes the gradient in the clean run; "eap-ig" its mean over `steps` points on the way from the
            corrupt to the clean input (what enters the first layer); "eap-ig-activations" scores the edges out of each
            layer's heads, and out of each MLP, on the way between what they themselves write (the reference
            implementation adds up every edge on each of these ways); "clean-corrupted" takes its mean over both ends
            of the way; "eap-qk" is "eap", but goes through the softmax itself where an edge ends in a query or key,
            which "eap" misses where attention is saturated; "exact" patches every edge, and is what all others
            estimate.
        steps: points on the way.
        rule: "left" takes them from the corrupt end on, which it includes, as the reference implementation does over
            inputs; "right" up to the clean end, as the paper says and that implementation does over activations;
            "midpoint" the middles of the parts.
        examples: "mean", or "mean-absolute" of each example's magnitude.
        positions: "sum", or "sum-absolute" of each position's magnitude.
        spans: keep scores by span too (`Graph.by_span`), of the clean prompt's positions; one that several spans name
            counts in each.
        align: how positions of pairs stand for each other: "tokens", "common" or named spans; see `Aligned.of`.
        edges: which edges to score, of methods that can leave others out ("exact"): a mask, or a graph, whose
            members are meant. The others score 0, and are no members of the graph that is given.
        batch_size: pairs at a time; found from the memory if None.
        keep_examples: keep each example's scores, signed unless joined as magnitudes over positions; where they take
            up to 256 MB if None.
        checkpointing: keep each layer's input alone and compute the layer again on the way back: less memory on long
            prompts, for a third more time.
        seed: kept with the graph, and used where a method draws.
        progress: show a bar.

    Raises:
        CircuitError: no such method, rule or way to join; a metric without gradient; a model whose heads and MLPs
            cannot be told apart, or NaN on the way; pairs or spans that do not align.
        PairError: pairs of unequal lengths under `align="tokens"`.
        ValueError: the metric does not give one number an example.

    >>> pairs = ck.Pairs(["Fae is a lempus."], ["Fae is a wumpus."], [" Fae"], [" Rex"])
    >>> graph = ck.circuits.attribute(ck.load("deductor-130k"), pairs, progress=False)
    >>> graph.scores.shape == (len(graph.layout.sources), len(graph.layout.destinations))
    True
    """
    measure = as_metric(metric)
    chosen = _checked(method, steps, rule, examples, positions)
    steps = int(steps)
    check_model(model, measure, method, at_clean=method in ("eap", "eap-qk"), instead="eap-ig")
    layout = Layout.of(model)
    some = _some_edges(model, layout, method, edges)
    aligned = Aligned.of(model, pairs, measure, align)
    settings = Settings(measure, steps, rule, positions, checkpointing, seed, some)
    named = columns_of_spans(model, pairs, aligned, spans or {})
    size = pairs_at_once(model, aligned, batch_size, checkpointing)
    # Whoever asks may be in a context without gradients.
    with torch.inference_mode(False), frozen_weights(model.hf):
        sums = _Sums(layout, examples, len(named), len(aligned), keep_examples)
        _add_all(model, method, aligned, named, settings, size, sums, progress)
        means = sums.means()
    convention = Convention(
        method,
        measure.name,
        measure.unit,
        measure.higher_is_better,
        steps if chosen.integrates else None,
        rule if chosen.integrates else None,
        examples,
        positions,
    )
    return Graph(
        layout=layout,
        scores=means[0],
        members=layout.reach if some is None else some,
        convention=convention,
        per_example=sums.kept,
        by_span=dict(zip(spans or {}, means[1:], strict=True)),
        groups=aligned.groups,
        provenance=provenance(
            model_name=model.name,
            revision=model.revision,
            data=[aligned.clean.tokens.ids, aligned.corrupt.tokens.ids, aligned.targets.answer],
            seed=seed,
            method=method,
            d_model=model.d_model,
            pairs=len(aligned),
            edges=layout.n_edges if some is None else int(some.sum()),
            align=align if isinstance(align, str) else [str(each) for each in align],
        ),
    )


def _add_all(
    model: Model,
    method: str,
    aligned: Aligned,
    named: Bool[Tensor, "span batch position"],
    settings: Settings,
    size: int,
    sums: _Sums,
    progress: bool,
) -> None:
    """Score all pairs, some at a time, and add up what comes of it."""
    passes = METHODS[method].passes(sums.layout, settings)
    bar = tqdm(
        total=len(aligned) * passes, desc=f"{method}, {model.name}", unit="pass", disable=not progress, delay=1.0
    )

    def run(rows: Sequence[int]) -> Tensor:
        here = slice(rows[0], rows[-1] + 1)
        part = aligned.part(here)
        columns = named[:, here, named.shape[-1] - part.corrupt_at.shape[1] :]
        told = replace(settings, tick=lambda: bar.update(len(rows)))
        return METHODS[method].score(model, Batch(part, columns), told).cpu()

    with bar:
        for rows, scores in some_at_a_time(model, range(len(aligned)), size, run, "pairs"):
            sums.add(rows[0], scores)
            bar.n = (rows[-1] + 1) * passes


def check_model(model: Model, metric: Metric, method: str, *, at_clean: bool, instead: str) -> None:
    """Refuse a model that is not as it is alone, and warn of a gradient that vanishes.

    Args:
        model: the model.
        metric: what is measured.
        method: how it is attributed.
        at_clean: whether the method takes the gradient in the clean run alone.
        instead: a method that does not.

    Raises:
        CircuitError: an outer context holds an intervention on the model.
    """
    check_dropout(model)
    for session in model.sessions:
        for edit in session.edits:
            raise CircuitError(
                f"the intervention at {edit.site} is held on {model.name} by an outer context, and scores are those of "
                "the model as it is: leave the context first"
            )
    if metric.needs_clean and at_clean:
        warnings.warn(
            f"the gradient of {metric.name} vanishes in the clean run, where {method} takes it, so scores are about "
            f'zero: use method="{instead}"',
            stacklevel=3,
        )


def _checked(method: str, steps: int, rule: Rule, examples: OverExamples, positions: OverPositions) -> Method:
    if method not in METHODS:
        raise CircuitError(f"there is no method {method!r}; the methods are {', '.join(METHODS)}")
    alphas(steps, rule)
    for name, given, ways in (("examples", examples, OverExamples), ("positions", positions, OverPositions)):
        if given not in get_args(ways):
            raise CircuitError(f"{name} are joined as {' or '.join(map(repr, get_args(ways)))}, not {given!r}")
    chosen = METHODS[method]
    if positions == "sum-absolute" and not chosen.by_token:
        raise CircuitError(
            f"{method!r} changes all positions of an edge together, and its scores are no sums over positions: use "
            'positions="sum", or spans'
        )
    return chosen


def _some_edges(
    model: Model, layout: Layout, method: str, edges: Tensor | Graph | None
) -> Bool[Tensor, "sources destinations"] | None:
    if edges is None:
        return None
    if not METHODS[method].chooses:
        able = ", ".join(name for name, each in METHODS.items() if each.chooses)
        raise CircuitError(f"{method!r} scores all edges at once: edges= goes with {able}")
    if isinstance(edges, Graph):
        edges.check_fits(model)
        return edges.members
    if not isinstance(edges, Tensor):
        raise CircuitError(f"edges= is a graph, or a mask of edges as Graph.members is, not {edges!r}")
    return checked_members(layout, edges)


def columns_of_spans(
    model: Model, pairs: Pairs, aligned: Aligned, spans: Mapping[str, Span]
) -> Bool[Tensor, "span batch position"]:
    """The clean columns of each span."""
    wrong = spans if not isinstance(spans, Mapping) else [each for each in spans.values() if not isinstance(each, Span)]
    if wrong:
        raise CircuitError(
            f'spans= names spans to keep scores of, as in {{"last": Span.at(-1)}} with Span from circuitkit.spans; got '
            f"{wrong!r}"
        )
    tokens = aligned.clean.tokens
    named = torch.zeros(len(spans), *tokens.ids.shape, dtype=torch.bool)
    starts = tokens.mask.long().argmax(-1).tolist()
    for number, (name, span) in enumerate(spans.items()):
        try:
            places = span.positions(model, pairs.clean)
        except SpanError as error:
            raise CircuitError(f"span {name!r} of the scores to keep: {error}") from error
        for row, (start, positions) in enumerate(zip(starts, places, strict=True)):
            named[number, row, [start + position for position in positions]] = True
    return named


def pairs_at_once(model: Model, aligned: Aligned, wanted: int | None, checkpointing: bool) -> int:
    """How many pairs are run together: as many as are wanted, or as a forward with its graph may hold.

    Raises:
        CircuitError: fewer than one is wanted.
    """
    if wanted is not None:
        if not isinstance(wanted, Integral) or wanted < 1:
            raise CircuitError(f"batch_size is how many pairs are run at a time, 1 or more, not {wanted!r}")
        return min(wanted, len(aligned))
    columns = aligned.corrupt_at.shape[1]
    config = model.config
    heads = int(getattr(config, "num_attention_heads", 16))
    wide = int(getattr(config, "intermediate_size", None) or 4 * model.d_model)
    a_layer = 12 * model.d_model + 6 * wide + 2 * heads * columns
    layers = 1 if checkpointing else model.n_layers
    kept = (layers * a_layer + model.n_layers * 8 * model.d_model) * columns * max(4, int(model.hf.dtype.itemsize))
    size = 4 * memory(model, None) // kept
    if model.device.type == "cpu":
        size = min(size, _TOKENS_AT_ONCE_ON_CPU // columns)
    return max(1, min(size, len(aligned)))


@dataclass
class _Sums:
    """Scores added up over examples, and each example's own where they are kept."""

    layout: Layout
    examples: OverExamples
    n_spans: int
    n_examples: int
    keep: bool | None

    def __post_init__(self) -> None:
        shape = len(self.layout.sources), len(self.layout.destinations)
        self._total = torch.zeros(1 + self.n_spans, *shape, dtype=torch.float64)
        keep = 4 * self.n_examples * shape[0] * shape[1] <= _KEPT_BYTES if self.keep is None else self.keep
        self.kept: Float[Tensor, "example sources destinations"] | None = (
            torch.zeros(self.n_examples, *shape) if keep else None
        )

    def add(self, first: int, scores: Float[Tensor, "kept example sources destinations"]) -> None:
        """Add some examples'."""
        if self.kept is not None:
            self.kept[first : first + scores.shape[1]] = scores[0]
        joined = scores.abs() if self.examples == "mean-absolute" else scores
        self._total += joined.sum(1, dtype=torch.float64)

    def means(self) -> Float[Tensor, "kept sources destinations"]:
        """The means over examples."""
        return (self._total / self.n_examples).float()
