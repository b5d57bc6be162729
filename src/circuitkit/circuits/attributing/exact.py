"""Every edge really patched: what the metric loses where one destination alone reads one source's corrupt write.

A destination's value under an edge is computed by its own layer, run alone on the clean stream with the difference that
the source makes in it; then the clean run goes on from that value. So an edge costs one layer on its own and the layers
behind it, and the edges into one layer run together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from circuitkit.circuits.attributing.alignment import Aligned
from circuitkit.circuits.attributing.written import Differences, Written
from circuitkit.circuits.errors import CircuitError
from circuitkit.circuits.graphs.layout import Layout
from circuitkit.metrics import PADDING, Metric
from circuitkit.model.site import Kind, Site
from circuitkit.model.tokens import Tokens
from circuitkit.run.cache import Cache
from circuitkit.run.interventions import Intervention, add, replace
from circuitkit.run.memory import memory, some_at_a_time
from circuitkit.run.one_layer import computed
from circuitkit.study import Study

if TYPE_CHECKING:
    from circuitkit.model.model import Model

Place = tuple[int, int]
"""An edge's row and column."""


def exact_effects(
    model: Model,
    aligned: Aligned,
    metric: Metric,
    *,
    edges: Bool[Tensor, "sources destinations"] | None = None,
    within: Bool[Tensor, "batch column"] | None = None,
    tick: Callable[[], object] = lambda: None,
) -> Float[Tensor, "example sources destinations"]:
    """What each example's metric loses where one edge alone carries what the source writes in the corrupt run.

    That is metric(clean) − metric(clean run in which the destination reads the clean stream, less what the source
    writes in the clean run, plus what it writes in the corrupt one; all behind it computed as ever). With several
    readers of a head's key or value, all of them read the changed one. This is what attribution estimates.

    Args:
        model: the model.
        aligned: the pairs.
        metric: what is measured.
        edges: which to patch; all if None. Those that are left out are 0.
        within: the clean columns at which the source writes its corrupt value; all if None.
        tick: told of each layer's attention, each MLP and the logits, once the edges into it are measured.

    Raises:
        CircuitError: an edge is asked for that is none; see also `Written` and `Differences`.

    >>> from circuitkit.circuits.attributing.alignment import Aligned
    >>> from circuitkit.metrics import logit_difference
    >>> model = ck.load("deductor-130k")
    >>> pairs = ck.Pairs(["Alex is a wumpus. Alex is a"], ["Alex is a lempus. Alex is a"], [" wumpus"], [" lempus"])
    >>> exact_effects(model, Aligned.of(model, pairs, logit_difference), logit_difference).shape
    torch.Size([1, 16, 40])
    """
    layout = Layout.of(model)
    edges = layout.reach if edges is None else edges.cpu()
    if edges.shape != layout.reach.shape or bool((edges & ~layout.reach).any()):
        raise CircuitError(
            f"edges must be some of the {layout.n_edges:,} that {model.name} has, as a mask of its layout"
        )
    effects = torch.zeros(len(aligned), *layout.reach.shape)
    with torch.inference_mode():
        patching = _Patching(model, layout, aligned, metric, within)
        for step in _steps(layout, edges):
            for places, values in patching.measured(step, edges):
                rows, columns = (list(each) for each in zip(*places, strict=True))
                effects[:, rows, columns] = values.T.to(effects.dtype)
            tick()
    # Outside of inference mode again, so that whoever reads them may go on with them.
    return effects.clone()


@dataclass(frozen=True)
class _Step:
    """One reading of the stream: a layer's attention, its MLP, or the logits."""

    layer: int
    what: Kind
    columns: slice
    rows: slice


def _steps(layout: Layout, edges: Tensor) -> Iterator[_Step]:
    for layer in range(layout.n_layers):
        at = layout.mlp_input_at(layer)
        yield _Step(layer, "q", layout.attention_at(layer), layout.before_attention(layer))
        yield _Step(layer, "mlp_out", slice(at, at + 1), layout.before_mlp(layer))
    at = layout.logits_at
    yield _Step(layout.n_layers - 1, "resid_post", slice(at, at + 1), slice(0, len(layout.sources)))


class _Patching:
    """The clean run, what each source makes different in it, and the study that measures cells on it."""

    def __init__(self, model: Model, layout: Layout, aligned: Aligned, metric: Metric, within: Tensor | None) -> None:
        self.model, self.layout, self.aligned, self.within = model, layout, aligned, within
        clean, corrupt = (Written.of(model, each) for each in (aligned.clean, aligned.corrupt))
        self.differences = Differences(model, aligned, clean, corrupt)
        self.study = Study.of(model, prompts_of(aligned, metric), aligned.targets, metric, "noise")

    def measured(self, step: _Step, edges: Tensor) -> Iterator[tuple[list[Place], Float[Tensor, "edge example"]]]:
        """The effects of the edges into one reading, some at a time; edges that change nothing are left out."""
        inside = edges[step.rows, step.columns]
        rows = [step.rows.start + row for row in inside.any(1).nonzero().flatten().tolist()]
        if not rows:
            return
        clean = self._clean(step)
        held = memory(self.model, None) // 2
        at_once = max(1, held // self._bytes(step, int(inside.sum(1).max())))

        def cells(some: Sequence[int]) -> tuple[list[Place], list[list[Intervention]]]:
            return self._cells(step, clean, some, edges)

        for _, (places, patched) in some_at_a_time(self.model, rows, at_once, cells, "sources"):
            if places:
                values = self.study.measured(patched, "", progress=False)
                yield places, self.study.baseline.clean - values

    def _clean(self, step: _Step) -> Cache:
        kinds: tuple[Kind, ...] = ("q", "k", "v") if step.what == "q" else (step.what,)
        sites = [Site(kind, layer=step.layer) for kind in ("resid_pre", *kinds)]
        return self.model.run(self.aligned.clean.tokens, capture=sites, logits_at=-1).cache

    def _cells(
        self, step: _Step, clean: Cache, rows: Sequence[int], edges: Tensor
    ) -> tuple[list[Place], list[list[Intervention]]]:
        made = self._made(rows)
        acting = made.flatten(1).any(1).tolist()
        rows = [row for row, acts in zip(rows, acting, strict=True) if acts]
        if not rows:
            return [], []
        made = made[acting]
        if step.what == "resid_post":
            return self._into_logits(step, rows, made * self._read[..., None])
        places: list[Place] = []
        cells: list[list[Intervention]] = []
        # Tokens whose stream is the clean run's compute what they did: rounding is no change.
        touched = (made != 0).any(-1)
        for column, site, new in self._received(step, clean, made):
            old = clean[site]
            for number, row in enumerate(rows):
                if edges[row, column]:
                    value = torch.where(touched[number, ..., None], new[number], old)
                    places.append((row, column))
                    cells.append([replace(site, value)])
        return places, cells

    def _received(self, step: _Step, clean: Cache, made: Tensor) -> Iterator[tuple[int, Site, Tensor]]:
        """Each destination's value under each source's difference, by its column and site."""
        tokens, layer, n = self.aligned.clean.tokens, step.layer, len(made)
        entering = clean[Site("resid_pre", layer=layer)]
        if step.what == "mlp_out":
            out = Site("mlp_out", layer=layer)
            stream, pins = self._before_mlp(layer, entering, made)
            alone = computed(self.model, tokens, layer, stream, [out], pins)
            yield step.columns.start, out, alone[out].view(n, *entering.shape)
            return
        whole = {kind: Site(kind, layer=layer) for kind in ("q", "k", "v")}
        alone = computed(self.model, tokens, layer, _added(entering, made), list(whole.values()))
        at = {"q": self.layout.queries_at, "k": self.layout.keys_at, "v": self.layout.values_at}
        for kind, site in whole.items():
            new = alone[site].view(n, *clean[site].shape)
            columns = at[kind](layer)
            for column in range(columns.start, columns.stop):
                head = column - columns.start
                yield column, site.at(head=head), new[:, :, :, head]

    def _before_mlp(self, layer: int, entering: Tensor, made: Tensor) -> tuple[Tensor, list[Intervention]]:
        """The stream that enters the layer, and what is added to it before the MLP where attention reads it first."""
        if self.layout.parallel[layer]:
            return _added(entering, made), []
        stream = entering.expand(len(made), *entering.shape).flatten(0, 1)
        return stream, [add(Site("resid_mid", layer=layer), made.flatten(0, 1).to(entering.dtype))]

    def _into_logits(
        self, step: _Step, rows: Sequence[int], made: Tensor
    ) -> tuple[list[Place], list[list[Intervention]]]:
        site, column = Site("resid_post", layer=step.layer), step.columns.start
        acting = made.flatten(1).any(1).tolist()
        places = [(row, column) for row, acts in zip(rows, acting, strict=True) if acts]
        return places, [[add(site, each)] for each, acts in zip(made, acting, strict=True) if acts]

    def _made(self, rows: Sequence[int]) -> Float[Tensor, "source batch position d_model"]:
        """What each source makes different in the stream."""
        # Of a few edges the rows may lie far apart: what lies between is not made.
        ends = [0, *(at for at in range(1, len(rows)) if rows[at] > rows[at - 1] + 1), len(rows)]
        blocks = [self.differences.block(slice(rows[start], rows[stop - 1] + 1)) for start, stop in pairwise(ends)]
        made = blocks[0] if len(blocks) == 1 else torch.cat(blocks)
        return made if self.within is None else made * self.within.to(made.device)[..., None]

    @cached_property
    def _read(self) -> Bool[Tensor, "batch column"]:
        """Where logits are read, and so the last stream reaches them."""
        reading = self.aligned.clean
        read = torch.zeros_like(reading.tokens.mask)
        return read.scatter(1, reading.columns, torch.ones_like(reading.columns, dtype=torch.bool))

    def _bytes(self, step: _Step, columns: int) -> int:
        """What one source's difference, the layer that is run on it, and the values that come of it take."""
        config, width = self.model.config, self.model.d_model
        inner = int(getattr(config, "intermediate_size", None) or 4 * width)
        heads = max(self.layout.n_heads)
        attention = 2 * heads * self.aligned.clean.tokens.ids.shape[1]
        kept = columns * (width if step.what != "q" else max(1, width // heads))
        return self.aligned.clean.tokens.ids.numel() * 4 * (12 * width + 2 * inner + attention + kept)


def _added(
    entering: Float[Tensor, "batch position d_model"], made: Float[Tensor, "source batch position d_model"]
) -> Float[Tensor, "row position d_model"]:
    return (entering.to(made.dtype) + made).to(entering.dtype).flatten(0, 1)


def prompts_of(aligned: Aligned, metric: Metric) -> Tokens:
    """The clean prompts without the answers that a metric may read behind them."""
    reading, answer = aligned.clean, aligned.targets.answer
    if metric.positions == "last" or answer.shape[1] == 1:
        return reading.tokens
    behind = ((answer != PADDING).sum(-1) - 1).tolist()
    kept = [
        ids[mask][: int(mask.sum()) - n]
        for ids, mask, n in zip(reading.tokens.ids, reading.tokens.mask, behind, strict=True)
    ]
    width = max(map(len, kept))
    ids: Any = reading.tokens.ids.new_zeros(len(kept), width)
    mask = torch.zeros_like(ids, dtype=torch.bool)
    for row, each in enumerate(kept):
        ids[row, width - len(each) :], mask[row, width - len(each) :] = each, True
    return Tokens(ids, mask)
