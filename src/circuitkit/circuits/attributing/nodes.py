"""Attribution of nodes: a score for each head's output, query, key and value, each MLP, and the input."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace as with_fields
from typing import TYPE_CHECKING, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from circuitkit import metrics
from circuitkit.circuits.attributing.alignment import Align, Aligned
from circuitkit.circuits.attributing.atp_star import atp_star
from circuitkit.circuits.attributing.attribution import check_model, columns_of_spans, pairs_at_once
from circuitkit.circuits.attributing.exact import prompts_of
from circuitkit.circuits.attributing.methods import Batch, Settings, alphas
from circuitkit.circuits.attributing.node_runs import NodeRuns, Scores
from circuitkit.circuits.attributing.node_scores import Node, NodeScores
from circuitkit.circuits.errors import CircuitError
from circuitkit.circuits.graphs.convention import Convention, OverExamples, Rule
from circuitkit.circuits.graphs.layout import Layout
from circuitkit.metrics import Compute, Metric, as_metric
from circuitkit.pairs import Pairs
from circuitkit.records import provenance
from circuitkit.run.interventions import Intervention, replace
from circuitkit.run.memory import memory, some_at_a_time
from circuitkit.spans import Span
from circuitkit.study import Study

if TYPE_CHECKING:
    from circuitkit.model.model import Model

NodeMethod = Literal["ap", "ap-ig", "atp*", "exact"]
NODE_METHODS: tuple[NodeMethod, ...] = get_args(NodeMethod)


def attribute_nodes(
    model: Model,
    pairs: Pairs,
    metric: Metric | Compute | str = metrics.logit_difference,
    method: NodeMethod = "ap",
    *,
    steps: int = 5,
    rule: Rule = "left",
    qk_fix: bool = True,
    grad_drop: bool = True,
    examples: OverExamples = "mean",
    spans: Mapping[str, Span] | None = None,
    align: Align = "tokens",
    batch_size: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> NodeScores:
    """Score every node: by how much the metric would fall if it alone took its activation of the corrupt run.

    Nodes are heads' outputs `z`, their queries, keys and values, MLPs, and the input, each over all of a prompt's
    positions, or over a span's. A score above zero says that corrupting the node lowers the metric. A node's effect is
    that of all paths from it, and no sum of its edges'.

    Args:
        model: the model.
        pairs: clean and corrupt prompts.
        metric: what is measured, by name or as a function.
        method: "ap" (attribution patching) is (corrupt − clean activation) times the gradient of minus the metric in
            the clean run; "ap-ig" takes that gradient's mean over the way from the corrupt to the clean input; "atp*"
            goes through the softmax itself at queries and keys, and drops one layer after another from the gradient,
            see `qk_fix` and `grad_drop`; "exact" patches every node, and is what all others estimate.
        steps, rule: of "ap-ig", as in `attribute`.
        qk_fix: of "atp*": compute the softmax anew from a corrupt query or key, rather than to first order.
        grad_drop: of "atp*": average magnitudes over gradients that each leave out one layer, so that paths that cancel
            are seen. Scores are then magnitudes.
        examples: "mean", or "mean-absolute" of each example's magnitude.
        spans: keep scores by span too (`NodeScores.by_span`), of the clean prompt's positions.
        align: how positions of pairs stand for each other, as in `attribute`.
        batch_size: pairs at a time; found from the memory if None.
        seed: of the intervals.
        progress: show a bar.

    Raises:
        CircuitError: no such method, rule or way to join; a metric without gradient; a model whose heads and MLPs
            cannot be told apart, or on which a context holds interventions; GradDrop with one layer; pairs or spans
            that do not align.
        PairError: pairs of unequal lengths under `align="tokens"`.
        ValueError: the metric does not give one number an example.

    Source: Nanda 2023, "Attribution patching"; Kramár et al. 2024, arXiv 2403.00745.

    >>> pairs = ck.Pairs(["Fae is a lempus."], ["Fae is a wumpus."], [" Fae"], [" Rex"])
    >>> scores = attribute_nodes(ck.load("deductor-130k"), pairs, method="atp*", progress=False)
    >>> len(scores.nodes), scores.convention.magnitudes
    (52, True)
    """
    measure = as_metric(metric)
    _check(method, examples)
    check_model(model, measure, method, at_clean=method in ("ap", "atp*"), instead="ap-ig")
    layout, aligned = Layout.of(model), Aligned.of(model, pairs, measure, align)
    named = columns_of_spans(model, pairs, aligned, spans or {})
    settings = Settings(measure, steps, rule)
    score = _scorer(method, settings, qk_fix=qk_fix, grad_drop=grad_drop)
    passes = _passes(method, layout, settings, grad_drop)
    bar = tqdm(
        total=len(aligned) * passes,
        desc=f"{method} of nodes, {model.name}",
        unit="pair",
        disable=not progress,
        delay=1.0,
    )

    def run(rows: Sequence[int]) -> Scores:
        here = slice(rows[0], rows[-1] + 1)
        part = aligned.part(here)
        columns = named[:, here, named.shape[-1] - part.corrupt_at.shape[1] :]
        return score(model, Batch(part, columns), with_fields(settings, tick=lambda: bar.update(len(rows)))).cpu()

    size = pairs_at_once(model, aligned, batch_size, checkpointing=False)
    # Whoever asks may be in a context without gradients.
    with bar, torch.inference_mode(False):
        made = [made for _, made in some_at_a_time(model, range(len(aligned)), size, run, "pairs")]
        scores = torch.cat(made, dim=1)
    integrates, drops = method == "ap-ig", method == "atp*" and grad_drop
    return NodeScores(
        layout=layout,
        per_example=scores[0],
        convention=Convention(
            _told(method, qk_fix, grad_drop),
            measure.name,
            measure.unit,
            measure.higher_is_better,
            steps if integrates else None,
            rule if integrates else None,
            "mean-absolute" if drops else examples,
        ),
        by_span=dict(zip(spans or {}, scores[1:], strict=True)),
        groups=aligned.groups,
        seed=seed,
        provenance=provenance(
            model_name=model.name,
            revision=model.revision,
            data=[aligned.clean.tokens.ids, aligned.corrupt.tokens.ids, aligned.targets.answer],
            seed=seed,
            method=method,
            pairs=len(aligned),
        ),
    )


def _check(method: str, examples: str) -> None:
    if method not in NODE_METHODS:
        raise CircuitError(f"there is no method {method!r} for nodes; the methods are {', '.join(NODE_METHODS)}")
    if examples not in get_args(OverExamples):
        raise CircuitError(f"examples are joined as {' or '.join(map(repr, get_args(OverExamples)))}, not {examples!r}")


def _told(method: NodeMethod, qk_fix: bool, grad_drop: bool) -> str:
    if method != "atp*" or (qk_fix and grad_drop):
        return method
    return "ap with the QK fix" if qk_fix else "ap with GradDrop" if grad_drop else "ap"


def _passes(method: NodeMethod, layout: Layout, settings: Settings, grad_drop: bool) -> int:
    if method == "ap-ig":
        return settings.steps
    return layout.n_layers if method == "exact" or (method == "atp*" and grad_drop) else 1


def _scorer(
    method: NodeMethod, settings: Settings, *, qk_fix: bool, grad_drop: bool
) -> Callable[[Model, Batch, Settings], Scores]:
    if method == "exact":
        return _exact
    if method == "atp*":
        return lambda model, batch, told: atp_star(model, batch, told, qk_fix=qk_fix, grad_drop=grad_drop)
    points = alphas(settings.steps, settings.rule) if method == "ap-ig" else [1.0]
    return lambda model, batch, told: _on_the_way(model, batch, told, points)


def _on_the_way(model: Model, batch: Batch, settings: Settings, points: list[float]) -> Scores:
    """Scores by the mean gradient at some points of the way from the corrupt to the clean input."""
    runs = NodeRuns(model, batch, settings)
    total: Scores | None = None
    for alpha in points:
        scores = runs.held(runs.graph(alpha).gradients()) / len(points)
        total = scores if total is None else total + scores
        settings.tick()
    assert total is not None  # one point at least
    return total


def _exact(model: Model, batch: Batch, settings: Settings) -> Scores:
    """Scores by really patching every node, at all positions and at each span's."""
    runs = NodeRuns(model, batch, settings)
    prompts = prompts_of(batch.aligned, settings.metric)
    study = Study.of(model, prompts, batch.aligned.targets, settings.metric, "noise")
    scores = torch.zeros(len(runs.kept), len(batch.aligned), len(runs.nodes))
    with torch.inference_mode():
        for layer in range(model.n_layers):
            for kept, numbers, cells in _cells(runs, layer):
                values = study.baseline.clean - study.measured(cells, "", progress=False)
                scores[kept, :, numbers] = values.T.to(scores)
            settings.tick()
    return scores.clone()


def _cells(runs: NodeRuns, layer: int) -> Iterator[tuple[int, list[int], list[list[Intervention]]]]:
    """The cells of one layer's nodes (the first one's with the input), by what is kept: numbers of nodes, and cells."""
    here: list[tuple[int, Node]] = [
        (number, node) for number, node in enumerate(runs.nodes) if max(0, node.layer) == layer
    ]
    most = max(
        1, memory(runs.model, None) // 2 // max(1, 4 * runs.aligned.clean.tokens.ids.numel() * runs.model.d_model)
    )
    for kept, columns in enumerate(runs.kept):
        for start in range(0, len(here), most):
            some = here[start : start + most]
            yield kept, [number for number, _ in some], [[_patched(runs, node, columns)] for _, node in some]


def _patched(runs: NodeRuns, node: Node, columns: Float[Tensor, "batch position"]) -> Intervention:
    """A node's corrupt activation at some columns, its clean one elsewhere."""
    site = node.site
    clean, change = runs.clean[site.place], runs.differences[site.place]
    if site.head is not None:
        clean, change = clean[:, :, site.head], change[:, :, site.head]
    there = columns.to(clean.device)[..., None] & (change != 0).any(-1, keepdim=True)
    return replace(site, torch.where(there, (clean.to(change) + change).to(clean), clean))
