"""Activation and attention patching: which activations, moved between a clean and a corrupt run, move the answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace as with_fields
from itertools import product
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from circuitkit import metrics
from circuitkit.metrics import Compute, Metric, as_metric
from circuitkit.model.site import HEAD_KINDS, KEY_VALUE_KINDS, Kind, Site, SiteError
from circuitkit.pairs import AlignedPairs, PairError, Pairs, Reading
from circuitkit.records import provenance
from circuitkit.results import Baseline, Result
from circuitkit.run.executor import logits_read, measure
from circuitkit.run.interventions import replace

if TYPE_CHECKING:
    from circuitkit.model.model import Model


def sweep(
    model: Model,
    pairs: Pairs,
    over: Kind | str = "resid_pre",
    metric: Metric | Compute | str = metrics.logit_difference,
    direction: Literal["denoise", "noise"] = "denoise",
    *,
    layers: Iterable[int] | None = None,
    positions: Iterable[int] | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Result:
    """Patch one kind of activation everywhere, one cell at a time.

    Denoising runs the corrupt prompts with one activation from the clean run; noising, the clean prompts with one
    from the corrupt run.

    Args:
        model: the model.
        pairs: prompts and answers.
        over: a site kind. Residual kinds give the axes `("layer", "position")`; kinds with heads `("layer", "head")`,
            over all positions at once, or `("layer", "head", "position")` where positions are named.
        metric: what is measured; in its own unit.
        direction: "denoise" or "noise".
        layers: which layers; all that have the kind if None.
        positions: which positions (for scores and pattern, of the query); negative ones count from a row's end.
        seed: of the statistics, which draw.
        progress: show a bar over the cells.

    Returns:
        A result whose `.values` is the metric's mean under each cell, not normalised; heads that a layer does not
        have are NaN and absent from `.frame`.

    Raises:
        SiteError: an unknown kind, or one that no layer has.
        PairError, PromptError: the pairs cannot be aligned, or have no common positions.

    Source: Vig et al. 2020, arXiv 2004.12265; Meng et al. 2022, arXiv 2202.05262; Zhang & Nanda 2024, arXiv 2309.16042.

    >>> pairs = ck.Pairs(["Alex is a wumpus. Alex is a"], ["Alex is a lempus. Alex is a"], [" wumpus"], [" lempus"])
    >>> sweep(ck.load("deductor-130k"), pairs, over="z", progress=False).axes
    ('layer', 'head')
    """
    if direction not in ("denoise", "noise"):
        raise ValueError(f"direction is 'denoise' or 'noise', not {direction!r}")
    site, metric = Site.parse(over), as_metric(metric)
    if site.kind in (None, "embed") or site != Site(site.kind):
        raise SiteError(f"a sweep goes over one kind in all layers, not over {over!r}")
    aligned = pairs.on(model)
    grid = _Grid.of(model, aligned, site.kind, layers, positions)
    base, source = (aligned.corrupt, aligned.clean) if direction == "denoise" else (aligned.clean, aligned.corrupt)
    reading = Reading.of(source, aligned.targets, metric)
    if reading.tokens is not source and any((cell.position or 0) < 0 for cell in grid.sites):
        raise PairError("with answers of several tokens, negative positions would count the answer: name them from 0")
    kept = model.run(reading.tokens, capture=grid.places).cache
    cells = [[replace(cell, kept[cell])] for cell in grid.sites]
    targets = aligned.targets
    if metric.needs_clean:
        targets = with_fields(targets, clean_logits=logits_read(model, aligned.clean, targets, metric))
    baseline = Baseline(
        measure(model, aligned.clean, targets, metric, [[]], progress=False)[0],
        measure(model, aligned.corrupt, targets, metric, [[]], progress=False)[0],
    )
    title = f"{direction} {site.kind}"
    values = measure(model, base, targets, metric, cells, title=title, progress=progress)
    return Result(
        per_example=grid.filled(values),
        axes=grid.axes,
        baseline=baseline,
        direction=direction,
        metric=metric.name,
        unit=metric.unit,
        title=f"Patching {site.kind} ({direction}), {model.name}",
        coordinates=grid.coordinates,
        labels=grid.labels,
        groups=aligned.groups,
        seed=seed,
        provenance=provenance(
            model_name=model.name,
            revision=model.revision,
            data=[aligned.clean.ids, aligned.corrupt.ids, targets.answer],
            seed=seed,
            study="patching.sweep",
            over=site.kind,
            direction=direction,
        ),
    )


class _Grid:
    """The cells of a sweep, and where each stands among its axes."""

    def __init__(self, sites: list[Site], axes: dict[str, Sequence[int]], labels: dict[str, tuple[str, ...]]) -> None:
        self.sites, self.labels = sites, labels
        self.axes = tuple(axes)
        self.coordinates = {axis: tuple(entries) for axis, entries in axes.items()}

    @classmethod
    def of(
        cls,
        model: Model,
        pairs: AlignedPairs,
        kind: Kind | None,
        layers: Iterable[int] | None,
        positions: Iterable[int] | None,
    ) -> _Grid:
        """The grid of a kind over layers, its heads if it has any, and positions if they are asked for."""
        assert kind is not None
        sites = model.sites(Site(kind)) if layers is None else [model.sites(Site(kind, layer=at))[0] for at in layers]
        rows = [int(site.layer or 0) for site in sites]
        axes: dict[str, Sequence[int]] = {"layer": rows}
        labels: dict[str, tuple[str, ...]] = {}
        heads: Sequence[int | None] = [None]
        if kind in HEAD_KINDS:
            count = model.n_kv_heads if kind in KEY_VALUE_KINDS else model.n_heads
            heads = axes["head"] = range(max(count(layer) for layer in rows))
        named: Sequence[int | None] = [None]
        if positions is not None:
            named = axes["position"] = list(positions)
        elif kind not in HEAD_KINDS:
            labels["position"] = pairs.labels(model)
            named = axes["position"] = range(len(labels["position"]))
        cells = [site.at(head=head, position=at) for site, head, at in product(sites, heads, named)]
        return cls([cell for cell in cells if _exists(model, cell)], axes, labels)

    @property
    def places(self) -> list[Site]:
        """The whole sites that the cells are parts of."""
        return list(dict.fromkeys(site.place for site in self.sites))

    def filled(self, values: Tensor) -> Tensor:
        """The cells' values along their axes; NaN where a layer has no such head."""
        sizes = [len(self.coordinates[axis]) for axis in self.axes]
        whole = torch.full((*sizes, values.shape[-1]), torch.nan, dtype=values.dtype)
        for site, value in zip(self.sites, values, strict=True):
            whole[tuple(self.coordinates[axis].index(getattr(site, axis)) for axis in self.axes)] = value
        return whole


def _exists(model: Model, cell: Site) -> bool:
    if cell.head is None:
        return True
    count = model.n_kv_heads if cell.kind in KEY_VALUE_KINDS else model.n_heads
    return cell.head < count(cell.layer or 0)
