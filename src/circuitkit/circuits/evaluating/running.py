"""Circuits run exactly: one number an example under each, as many circuits at a time as memory holds."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from dataclasses import replace as with_fields
from typing import TYPE_CHECKING, Any, TypedDict

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from tqdm.auto import tqdm

from circuitkit import metrics
from circuitkit.circuits.attributing.alignment import Align, Aligned
from circuitkit.circuits.attributing.linear_maps import check_whole
from circuitkit.circuits.errors import CircuitError
from circuitkit.circuits.evaluating.circuit_run import CircuitRun
from circuitkit.circuits.evaluating.layers import Layers
from circuitkit.circuits.evaluating.plan import Plan
from circuitkit.circuits.evaluating.replaced import ABLATIONS, Ablation, Means, Replacement
from circuitkit.circuits.evaluating.resampling import clusters_of
from circuitkit.circuits.evaluating.trial import check_layers
from circuitkit.circuits.graphs.graph import Graph
from circuitkit.circuits.graphs.layout import Layout
from circuitkit.metrics import Compute, Metric, as_metric
from circuitkit.model.tokens import Prompts
from circuitkit.pairs import Pairs
from circuitkit.records import provenance
from circuitkit.run.here import require_modules
from circuitkit.run.memory import may_go_on, memory, some_at_a_time
from circuitkit.run.run import forward, nan_advice, nan_row
from circuitkit.run.session import check_dropout

if TYPE_CHECKING:
    from circuitkit.model.model import Model

# A processor is fastest while a batch stays in its caches.
_TOKENS_AT_ONCE_ON_CPU = 512


class RunSettings(TypedDict, total=False):
    """How circuits are run: settings by name, each of which `run_circuit` explains."""

    align: Align
    reference: Prompts | None
    by_position: bool | None
    batch_size: int | None
    budget: int | None
    progress: bool


@dataclass(eq=False)
class Runs:
    """Pairs, a metric and a replacement, on which circuits of one model are run.

    Attributes:
        model: the model.
        layout: its nodes.
        layers: how its layers read and write.
        aligned: the pairs.
        metric: what is measured.
        ablation: what edges outside a circuit carry.
        means: the means that they carry, where they do.
    """

    model: Model
    layout: Layout
    layers: Layers
    aligned: Aligned
    metric: Metric
    ablation: Ablation
    means: Means | None = None
    batch_size: int | None = None
    budget: int | None = None
    progress: bool = True
    groups: Sequence[int | str] | None = None
    _nothing: Replacement | None = field(default=None, init=False, repr=False)

    @classmethod
    def of(
        cls,
        model: Model,
        pairs: Pairs,
        metric: Metric | Compute | str = metrics.logit_difference,
        ablation: Ablation = "patch",
        *,
        align: Align = "tokens",
        reference: Prompts | None = None,
        by_position: bool | None = None,
        batch_size: int | None = None,
        budget: int | None = None,
        progress: bool = True,
    ) -> Runs:
        """Make ready to run circuits; see `run_circuit`."""
        _check_settings(model, ablation, reference, by_position, batch_size, budget)
        metric = as_metric(metric)
        layout = Layout.of(model)
        aligned = Aligned.of(model, pairs, metric, align)
        layers = Layers(model)
        check_layers(layers, aligned.clean.tokens[:1])
        runs = cls(model, layout, layers, aligned, metric, ablation, None, batch_size, budget, progress, pairs.groups)
        if metric.needs_clean:
            runs.aligned = with_fields(aligned, targets=with_fields(aligned.targets, clean_logits=runs._clean_logits()))
        if ablation == "mean":
            runs.means = runs._means(reference, by_position)
        return runs

    def measured(
        self, members: Bool[Tensor, "circuit sources destinations"], title: str = "running circuits"
    ) -> Float[Tensor, "circuit example"]:
        """The metric of every example under every circuit.

        Raises:
            CircuitError: an edge that does not exist is a member, or the logits hold NaN.
            ValueError: the metric does not fit.
        """
        plans = [Plan.of(self.layout, each.cpu()) for each in members]
        values: list[Tensor] = []
        bar = tqdm(total=len(plans) * len(self.aligned), desc=title, unit="run", disable=not self.progress, delay=1.0)
        waiting = self._batches(len(self.aligned))
        with bar:
            while waiting:
                rows, begun = waiting.pop(0), bar.n
                try:
                    values.append(self._part(self.aligned.part(rows), plans, bar))
                except (RuntimeError, MemoryError) as error:
                    if not may_go_on(self.model, error, rows.stop - rows.start):
                        raise
                    middle = (rows.start + rows.stop) // 2
                    warnings.warn(f"memory ran out ({error}); going on with {middle - rows.start} pairs", stacklevel=2)
                    waiting[:0] = [slice(rows.start, middle), slice(middle, rows.stop)]
                    bar.n = begun
        return torch.cat(values, dim=1)

    def clean(self) -> Float[Tensor, " example"]:
        """The metric of the clean run, by the model's own forward."""
        return self._whole("clean")

    def corrupt(self) -> Float[Tensor, " example"]:
        """The metric of the corrupt run, by the model's own forward."""
        return self._whole("corrupt")

    @property
    def clusters(self) -> Int[Tensor, " example"] | None:
        """The pairs' groups by number; None where they have none."""
        return None if self.groups is None else torch.from_numpy(clusters_of(len(self.aligned), self.groups))

    def provenance(self, study: str, graph: Graph, seed: int, **told: Any) -> dict[str, Any]:
        """Where what is measured of a graph comes from."""
        read = self.aligned
        return provenance(
            model_name=self.model.name,
            revision=self.model.revision,
            data=[read.clean.tokens.ids, read.corrupt.tokens.ids, read.targets.answer],
            seed=seed,
            study=study,
            ablation=self.ablation,
            scores=str(graph.convention),
            **told,
        )

    def _whole(self, which: str) -> Float[Tensor, " example"]:
        values = []
        with torch.no_grad():
            for rows in self._batches(len(self.aligned)):
                part = self.aligned.part(rows)
                reading = part.clean if which == "clean" else part.corrupt
                values.append(self._values(forward(self.model, reading.tokens, reading.columns)[None], part)[0])
        return torch.cat(values)

    def _part(self, part: Aligned, plans: Sequence[Plan], bar: tqdm[Any]) -> Float[Tensor, "circuit example"]:
        """Some examples under every circuit."""
        with torch.no_grad():
            replacement = self._replacement(part)
        # Padding has no counterpart, and nobody reads it.
        known = part.counterpart | ~part.clean.tokens.mask
        everywhere = self.ablation != "patch" or bool(known.all())
        values: list[Tensor] = []
        n_rows, n_columns = part.clean.tokens.ids.shape

        def run(some: Sequence[Plan]) -> Tensor:
            under_way = CircuitRun(
                self.layers,
                self.layout,
                some,
                part.clean,
                replacement,
                None if everywhere else known,
                self._streams_at_once(n_rows, n_columns),
                memory(self.model, self.budget) // 2,
            )
            return under_way.logits()

        for some, logits in some_at_a_time(
            self.model, plans, self._circuits_at_once(n_rows, n_columns), run, "circuits"
        ):
            values.append(self._values(logits, part))
            bar.update(len(some) * n_rows)
        return torch.cat(values)

    def _values(self, logits: Float[Tensor, "circuit batch reads vocab"], part: Aligned) -> Tensor:
        if nan_row(logits.flatten(0, 1)) is not None:
            raise CircuitError(f"the logits under a circuit hold NaN: {nan_advice(self.model)}")
        n = len(logits)
        targets = part.targets.select(torch.arange(len(part)).repeat(n)) if n > 1 else part.targets
        read = logits[:, :, 0] if self.metric.positions == "last" else logits
        return self.metric(read.flatten(0, 1), targets.to(logits.device)).cpu().view(n, -1)

    def _replacement(self, part: Aligned) -> Replacement:
        if self.ablation == "patch":
            written = Replacement.of_run(self.layers, part.corrupt.tokens)
            return written.mapped(part.at_clean)
        if self.means is not None:
            return self.means.at(part.clean.tokens)
        if self._nothing is None:
            self._nothing = Replacement.nothing(self.layers)
        return self._nothing

    def _clean_logits(self) -> Tensor:
        logits = []
        with torch.no_grad():
            for rows in self._batches(len(self.aligned)):
                reading = self.aligned.part(rows).clean
                logits.append(forward(self.model, reading.tokens, reading.columns))
        joined = torch.cat(logits)
        return joined[:, 0] if self.metric.positions == "last" else joined

    def _means(self, reference: Prompts | None, by_position: bool | None) -> Means:
        tokens = self.aligned.corrupt.tokens if reference is None else self.model.tokens(reference)
        if by_position is None:
            lengths = torch.cat([tokens.lengths, self.aligned.clean.tokens.lengths])
            by_position = bool((lengths == lengths[0]).all())
        return Means.over(self.layers, tokens, by_position, self._batches(len(tokens)))

    # How much at a time

    def _bytes_a_stream(self, columns: int) -> int:
        return 4 * columns * self.model.d_model

    def _batches(self, n: int) -> list[slice]:
        """Rows that are run together."""
        columns = max(self.aligned.clean.tokens.ids.shape[1], self.aligned.corrupt.tokens.ids.shape[1])
        size = self.batch_size
        if size is None:
            # Stream, MLP input, z and MLP output of each layer, of the replacement; z and MLP output of a circuit; and
            # what a layer holds at its widest.
            streams = 6 * self.model.n_layers + 40
            size = memory(self.model, self.budget) // (streams * self._bytes_a_stream(columns))
            if self.model.device.type == "cpu":
                size = min(size, _TOKENS_AT_ONCE_ON_CPU // columns)
        size = max(1, min(size, n))
        return [slice(at, min(at + size, n)) for at in range(0, n, size)]

    def _circuits_at_once(self, rows: int, columns: int) -> int:
        kept = 4 * self.model.n_layers * rows * self._bytes_a_stream(columns)
        left = memory(self.model, self.budget) - kept
        size = left // ((2 * self.model.n_layers + 24) * rows * self._bytes_a_stream(columns))
        if self.model.device.type == "cpu":
            size = min(size, _TOKENS_AT_ONCE_ON_CPU // (rows * columns))
        return max(1, size)

    def _streams_at_once(self, rows: int, columns: int) -> int:
        return max(1, memory(self.model, self.budget) // (16 * rows * self._bytes_a_stream(columns)))


def _check_settings(
    model: Model,
    ablation: Ablation,
    reference: Prompts | None,
    by_position: bool | None,
    batch_size: int | None,
    budget: int | None,
) -> None:
    require_modules(model)
    check_whole(model)
    check_dropout(model)
    if model.sessions:
        raise CircuitError(
            "interventions or captures are held on the model, and a circuit's run replaces what they would meet: leave "
            "the intervene context first"
        )
    if ablation not in ABLATIONS:
        raise CircuitError(f"edges outside a circuit carry 'patch', 'mean' or 'zero', not {ablation!r}")
    if ablation != "mean" and (reference is not None or by_position is not None):
        raise CircuitError(
            f"reference and by_position tell how means are taken; with ablation={ablation!r} there are none"
        )
    if budget is not None and budget < 1:
        raise CircuitError(f"budget is how many bytes a batch may take, 1 or more, not {budget}")
    if batch_size is not None and batch_size < 1:
        raise CircuitError(f"batch_size is how many examples are run at a time, 1 or more, not {batch_size}")
