"""Ways to score edges, by name: where the metric's gradient is taken, and on which way between two runs.

EAP (Syed et al. 2023, arXiv 2310.10348) takes it in the clean run. EAP-IG (Hanna et al. 2024, arXiv 2403.17806) takes
its mean on the straight way from the corrupt to the clean input, or, over activations, for each layer's heads and each
MLP on the way between what they write in the two runs. With the QK fix (Kramár et al. 2024, arXiv 2403.00745) edges
into queries and keys go through the softmax itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from circuitkit.circuits.attributing.alignment import Aligned
from circuitkit.circuits.attributing.contraction import Contraction, Scores
from circuitkit.circuits.attributing.exact import exact_effects
from circuitkit.circuits.attributing.passes import INPUT, GradientPass, read_logits
from circuitkit.circuits.attributing.qk_edges import on_queries_and_keys
from circuitkit.circuits.attributing.reading import Received
from circuitkit.circuits.attributing.written import Differences, Written, entering
from circuitkit.circuits.errors import CircuitError
from circuitkit.circuits.graphs.convention import OverPositions, Rule
from circuitkit.circuits.graphs.layout import Layout
from circuitkit.metrics import Metric, Targets
from circuitkit.model.site import Site
from circuitkit.run.run import forward

if TYPE_CHECKING:
    from circuitkit.model.model import Model


@dataclass(frozen=True)
class Settings:
    """How edges are scored.

    Attributes:
        metric: what is measured.
        steps, rule: of integrated gradients.
        positions: how positions are joined.
        checkpointing: compute layers again on the way back, and keep less.
        seed: of what is drawn, where a method draws.
        edges: which edges to score, where a method can leave others out; all if None.
        tick: told of each pass.
    """

    metric: Metric
    steps: int = 5
    rule: Rule = "left"
    positions: OverPositions = "sum"
    checkpointing: bool = False
    seed: int = 0
    edges: Bool[Tensor, "sources destinations"] | None = None
    tick: Callable[[], object] = lambda: None


@dataclass(frozen=True, eq=False)
class Batch:
    """Pairs that are scored together.

    Attributes:
        aligned: the pairs.
        spans: the clean columns of each span that scores are kept of.
    """

    aligned: Aligned
    spans: Bool[Tensor, "span batch position"]

    @property
    def shape(self) -> tuple[int, int]:
        """Batch and position."""
        batch, position = self.aligned.corrupt_at.shape
        return batch, position


@dataclass(frozen=True)
class Method:
    """A way to score edges.

    Attributes:
        score: gives a batch's scores, of all positions and then of each span.
        passes: forward and backward passes that a batch takes, for the progress bar.
        integrates: whether it has steps and a rule.
        chooses: whether it can leave edges out, and is the quicker for it.
        by_token: whether a score is a sum over tokens, so that their magnitudes can be added up too.
    """

    score: Callable[[Model, Batch, Settings], Scores]
    passes: Callable[[Layout, Settings], int]
    integrates: bool = False
    chooses: bool = False
    by_token: bool = True


def alphas(steps: int, rule: Rule) -> list[float]:
    """Where on the way from corrupt (0) to clean (1) the gradient is taken.

    Raises:
        CircuitError: no such rule, or no steps.

    >>> alphas(4, "left"), alphas(4, "midpoint")
    ([0.0, 0.25, 0.5, 0.75], [0.125, 0.375, 0.625, 0.875])
    """
    starts = {"left": 0.0, "right": 1.0, "midpoint": 0.5}
    if rule not in starts:
        raise CircuitError(
            f'integrated gradients take their points by rule="left", "right" or "midpoint", not {rule!r}'
        )
    if isinstance(steps, bool) or not isinstance(steps, Integral) or steps < 1:
        raise CircuitError(f"integrated gradients take one step at least, not {steps!r}")
    return [(step + starts[rule]) / steps for step in range(steps)]


class Runs:
    """A batch's clean and corrupt prompts, and what edges' scores are made of.

    What sources write in the two runs is found out when gradients are there to hold it against: on the way to them, its
    memory is free.

    Attributes:
        clean_input, corrupt_input: what enters the first layer.
        targets: the answers, with the clean run's logits where the metric needs them.

    Raises:
        CircuitError: see `Written.of` and `Differences`.
    """

    def __init__(self, model: Model, batch: Batch, settings: Settings) -> None:
        self.model, self.batch, self.settings, aligned = model, batch, settings, batch.aligned
        self.clean_input, self.corrupt_input = (entering(model, each) for each in (aligned.clean, aligned.corrupt))
        self.targets: Targets = aligned.targets
        if settings.metric.needs_clean:
            with torch.no_grad():
                logits = forward(model, aligned.clean.tokens, aligned.clean.columns)
            self.targets = replace(self.targets, clean_logits=read_logits(logits, settings.metric))

    @cached_property
    def differences(self) -> Differences:
        """What each source writes in the corrupt run less what it writes in the clean one."""
        aligned = self.batch.aligned
        return Differences(
            self.model, aligned, Written.of(self.model, aligned.clean), Written.of(self.model, aligned.corrupt)
        )

    @cached_property
    def contraction(self) -> Contraction:
        """Where scores add up."""
        return Contraction(self.differences, self.settings.positions, self.batch.spans)

    def received(self, passes: int = 1) -> Received:
        """Where gradients of so many passes go."""
        return Received(self.model, self.batch.shape, passes)

    def mean_gradient(
        self,
        site: Site,
        corrupt: Float[Tensor, "batch column d_model"],
        clean: Float[Tensor, "batch position d_model"],
        points: list[float],
        into: Received,
        rows: slice | None = None,
    ) -> None:
        """Add scores by the mean gradient at some points between what stands at a site in the two runs."""
        into.clear()
        for number, alpha in enumerate(points, start=1):
            self.pass_at(site, self.batch.aligned.between(corrupt, clean, alpha), into, 1 / len(points))
            if into.full and number < len(points):
                self.contraction.add(into, rows)
                into.clear()
        self.contraction.add(into, rows)

    def pass_at(self, site: Site, value: Float[Tensor, "batch position d_model"], into: Received, share: float) -> None:
        """Take gradients where something else stands at a site of the clean run."""
        begun = GradientPass(
            self.model,
            self.batch.aligned.clean,
            into,
            site,
            value,
            checkpointing=self.settings.checkpointing,
        )
        begun.run(self.settings.metric, self.targets, share)
        self.settings.tick()


def on_inputs(model: Model, batch: Batch, settings: Settings, points: list[float]) -> Scores:
    """Scores by the mean gradient at some points of the way from the corrupt to the clean input."""
    runs = Runs(model, batch, settings)
    runs.mean_gradient(INPUT, runs.corrupt_input, runs.clean_input, points, runs.received(len(points)))
    return runs.contraction.scores


def on_activations(model: Model, batch: Batch, settings: Settings) -> Scores:
    """Scores of each group of sources by the mean gradient on the way between what it writes in the two runs."""
    runs = Runs(model, batch, settings)
    points = alphas(settings.steps, settings.rule)
    received = runs.received(len(points))
    for site, rows, corrupt, clean in _groups(runs):
        runs.mean_gradient(site, corrupt, clean, points, received, rows)
    return runs.contraction.scores


def _groups(runs: Runs) -> Iterator[tuple[Site, slice, Tensor, Tensor]]:
    """Where each group of sources writes, its rows, and what it writes in the corrupt and in the clean run."""
    aligned, layout = runs.batch.aligned, runs.contraction.layout
    clean, corrupt = (Written.of(runs.model, each, attention=True) for each in (aligned.clean, aligned.corrupt))
    yield INPUT, slice(0, 1), corrupt.embedding, clean.embedding
    for layer in range(layout.n_layers):
        attention = Site("attn_out", layer=layer)
        yield attention, layout.heads_at(layer), corrupt.attention[layer], clean.attention[layer]
        mlp = layout.mlp_at(layer)
        yield Site("mlp_out", layer=layer), slice(mlp, mlp + 1), corrupt.mlps[layer], clean.mlps[layer]


def exactly(model: Model, batch: Batch, settings: Settings) -> Scores:
    """Scores by patching every edge; of a span, by patching what the source writes in it alone."""
    ways = (None, *batch.spans)
    return torch.stack(
        [
            exact_effects(
                model, batch.aligned, settings.metric, edges=settings.edges, within=within, tick=settings.tick
            )
            for within in ways
        ]
    )


METHODS: dict[str, Method] = {
    "eap": Method(lambda model, batch, settings: on_inputs(model, batch, settings, [1.0]), lambda layout, settings: 1),
    "eap-ig": Method(
        lambda model, batch, settings: on_inputs(model, batch, settings, alphas(settings.steps, settings.rule)),
        lambda layout, settings: settings.steps,
        integrates=True,
    ),
    "eap-ig-activations": Method(
        on_activations, lambda layout, settings: settings.steps * (2 * layout.n_layers + 1), integrates=True
    ),
    "clean-corrupted": Method(
        lambda model, batch, settings: on_inputs(model, batch, settings, [0.0, 1.0]), lambda layout, settings: 2
    ),
    "eap-qk": Method(on_queries_and_keys, lambda layout, settings: 1 + layout.n_layers, by_token=False),
    "exact": Method(exactly, lambda layout, settings: 2 * layout.n_layers + 1, chooses=True, by_token=False),
}
"""Ways to score edges, by name."""
