"""Activation and attention patching: which activations, moved between a clean and a corrupt run, move the answer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from circuitkit import metrics
from circuitkit.metrics import Compute, Metric
from circuitkit.model.site import Kind, Site, SiteError
from circuitkit.model.tokens import Prompts
from circuitkit.pairs import AlignedPairs, Pairs
from circuitkit.patching.cells import Cells, SiteSets
from circuitkit.patching.sources import Source, values_from
from circuitkit.random_sets import RandomSets
from circuitkit.results import Result
from circuitkit.run.interventions import replace
from circuitkit.study import Study

if TYPE_CHECKING:
    from circuitkit.model.model import Model


def sweep(
    model: Model,
    pairs: Pairs,
    over: Kind | str | None = None,
    metric: Metric | Compute | str = metrics.logit_difference,
    direction: Literal["denoise", "noise"] = "denoise",
    *,
    layers: Iterable[int] | None = None,
    positions: Iterable[int] | None = None,
    keys: Iterable[int] | None = None,
    window: int = 1,
    sets: SiteSets | None = None,
    controls: int = 20,
    source: Source = "pair",
    reference: Prompts | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Result:
    """Patch one kind of activation everywhere, one cell at a time; or sets of sites, each set together.

    Denoising runs the corrupt prompts with one activation from the clean run; noising, the clean prompts with one
    from the corrupt run.

    Args:
        model: the model.
        pairs: prompts and answers.
        over: a site kind, "resid_pre" if neither it nor `sets` is given. Residual kinds give the axes
            `("layer", "position")`; kinds with heads `("layer", "head")`, over all positions at once, or
            `("layer", "head", "position")` where positions are named, and `("layer", "head", "query", "key")` where
            keys are too.
        metric: what is measured; in its own unit.
        direction: "denoise" or "noise".
        layers: which layers, in any order, each once; all that have the kind if None.
        positions: which positions (for scores and pattern, of the query); negative ones count from a row's end.
        keys: for scores and pattern, which positions attended to, each by itself; all together if None.
        window: how many layers a cell patches together, named by the lowest: one after another among the sweep's, so
            that in `layers=[0, 2, 4]` a window of two is layers 0 and 2, and leaves layer 1 alone.
        sets: sets of sites, named where they come as a mapping, instead of a kind: the axis is `("set",)`. An edge of
            attention is `Site("pattern", layer, head, position=query, key=key)`.
        controls: how many random sets to patch beside each set of heads, drawn by the seed, with as many heads of its
            layers and kinds, and none of its own where the layers have others enough (the provenance tells; see
            `circuitkit.random_sets.RandomSets`); those that there are if they are fewer; 0 for none. They fill the
            columns `control_*` of `.frame`. A set that holds what is no single head has none, nor one whose other heads
            are not among the values that `source` gives. A kind's heads need no draws: beside each stand the other
            heads of its layer.
        source: where patched values come from. "pair": the pair's other run. Prompts: a run on these, one for all pairs
            or one for each, as long as the pairs'. "mean": a mean at each position over the reference prompts. A cache
            or a mapping of sites to tensors: those, `[batch or 1, …]` with the patched run's columns.
        reference: the prompts that a mean is taken over; the pairs' other prompts if None.
        seed: of the random sets and the statistics, which draw.
        progress: show a bar over the cells.

    Returns:
        A result whose `.values` is the metric's mean under each cell, not normalised; heads that a layer does not
        have, and edges to later tokens, are NaN and absent from `.frame`.

    Raises:
        SiteError: an unknown kind, or one that no layer has; a layer that is named twice; a window that does not fit;
            keys of a kind without them.
        PairError, PromptError: the pairs cannot be aligned, or have no common positions; a source does not fit them.
        CacheError: the values given lack a site.
        ValueError: there are to be fewer than 0 controls.

    Source: Vig et al. 2020, arXiv 2004.12265; Meng et al. 2022, arXiv 2202.05262; Zhang & Nanda 2024, arXiv 2309.16042.

    >>> pairs = ck.Pairs(["Alex is a wumpus. Alex is a"], ["Alex is a lempus. Alex is a"], [" wumpus"], [" lempus"])
    >>> sweep(ck.load("deductor-130k"), pairs, over="z", progress=False).axes
    ('layer', 'head')
    """
    aligned = pairs.on(model)
    cells = _cells(model, aligned, over, layers, positions, keys, window, sets)
    study = Study.of_pairs(model, aligned, metric, direction)
    cells.require_positions_of_prompts(study)
    kept = values_from(study, source, reference, cells.places)
    # Of a kind, all heads are measured already.
    random = RandomSets.beside(model, [] if sets is None else cells.sites, controls, seed).among(kept)
    patches = [[replace(site, kept[site]) for site in sites] for sites in (*cells.sites, *random.others)]
    what = "sets of sites" if sets is not None else _kind(over)
    whence = source if isinstance(source, str) else ("given values" if hasattr(source, "keys") else "other prompts")
    values = study.measured(patches, f"{direction} {what}", progress)
    measured, others = values[: len(cells.sites)], values[len(cells.sites) :]
    return study.result(
        cells.filled(measured),
        cells.axes,
        f"Patching {what} ({direction}{'' if whence == 'pair' else f', from {whence}'})",
        seed,
        coordinates=cells.coordinates,
        labels=cells.labels,
        controls=None if sets is None else study.beside(random, measured, others),
        study="patching.sweep",
        over=what,
        window=window,
        source=whence,
        controls_disjoint=list(random.disjoint),
    )


def _cells(
    model: Model,
    pairs: AlignedPairs,
    over: Kind | str | None,
    layers: Iterable[int] | None,
    positions: Iterable[int] | None,
    keys: Iterable[int] | None,
    window: int,
    sets: SiteSets | None,
) -> Cells:
    if sets is None:
        return Cells.over(model, pairs, _kind(over), layers, positions, window, keys)
    if window != 1 or any(each is not None for each in (over, layers, positions, keys)):
        raise SiteError("sets name their sites themselves: give no kind, layers, positions, keys or window beside them")
    return Cells.of_sets(model, sets)


def _kind(over: Kind | str | None) -> Kind:
    site = Site.parse(over or "resid_pre")
    if site.kind is None or site.kind == "embed" or site != Site(site.kind):
        raise SiteError(f"a sweep goes over one kind in all layers, not over {over!r}")
    return site.kind
