"""Head ablation: what the model loses when one head at a time writes nothing, its mean, or another prompt's output."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace as with_fields
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from circuitkit import metrics
from circuitkit.metrics import Compute, Metric, Targets, as_metric
from circuitkit.model.site import Site
from circuitkit.model.tokens import PromptError, Prompts, Tokens
from circuitkit.pairs import Pairs, Reading
from circuitkit.records import provenance
from circuitkit.results import Baseline, Result
from circuitkit.run.cache import Cache
from circuitkit.run.executor import logits_read, measure
from circuitkit.run.interventions import Intervention, mean, replace, zero

if TYPE_CHECKING:
    from circuitkit.model.model import Model

How = Literal["zero", "mean", "resample"]
Heads = Literal["all"] | Iterable[tuple[int, int]]


def sweep(
    model: Model,
    prompts: Prompts | Pairs,
    heads: Heads = "all",
    how: How = "zero",
    metric: Metric | Compute | str | None = None,
    *,
    seed: int = 0,
    progress: bool = True,
) -> Result:
    """Ablate one head at a time, at all positions, and measure what the clean run loses.

    Args:
        model: the model.
        prompts: pairs, whose clean prompts and answers are used; or prompts alone, whose answer is then the model's
            own most likely next token.
        heads: `(layer, head)` pairs, or "all".
        how: "zero" writes nothing; "mean" writes the head's mean `z` over all real tokens of these prompts; "resample"
            writes its `z` on another of these prompts, drawn by the seed, position by position.
        metric: by default the logit difference of pairs with a distractor, otherwise the KL from the clean run.
        seed: of resampling and of the statistics.
        progress: show a bar over the heads.

    Returns:
        A result with the axes `("layer", "head")`; heads not ablated, or that a layer lacks, are NaN.

    Raises:
        SiteError: a named head does not exist.
        PromptError: resampling prompts of different lengths, or one prompt alone.

    Source: Wang et al. 2022, arXiv 2211.00593 (mean); Chan et al. 2022, causal scrubbing (resample).

    >>> result = sweep(ck.load("deductor-130k"), ["Every wumpus is a dumpus."], progress=False)
    >>> result.axes, tuple(result.values.shape)
    (('layer', 'head'), (3, 4))
    """
    if how not in ("zero", "mean", "resample"):
        raise ValueError(f"how is 'zero', 'mean' or 'resample', not {how!r}")
    clean, targets, groups = _read(model, prompts)
    if metric is None:
        metric = metrics.kl if targets.distractor is None else metrics.logit_difference
    metric = as_metric(metric)
    sites = _sites(model, heads)
    reading = Reading.of(clean, targets, metric)
    cells = [[each] for each in _ablations(model, reading.tokens, sites, how, seed)]
    if metric.needs_clean:
        targets = with_fields(targets, clean_logits=logits_read(model, clean, targets, metric))
    baseline = Baseline(measure(model, clean, targets, metric, [[]], progress=False)[0])
    values = measure(model, clean, targets, metric, cells, title=f"{how} ablation", progress=progress)
    n_heads = [model.n_heads(layer) if layer in model.layers_with("z") else 0 for layer in range(model.n_layers)]
    per_example = torch.full((model.n_layers, max(n_heads), len(clean)), torch.nan, dtype=values.dtype)
    for site, value in zip(sites, values, strict=True):
        per_example[site.layer, site.head] = value
    return Result(
        per_example=per_example,
        axes=("layer", "head"),
        baseline=baseline,
        direction="ablate",
        metric=metric.name,
        unit=metric.unit,
        title=f"Ablating heads ({how}), {model.name}",
        groups=groups,
        seed=seed,
        provenance=provenance(
            model_name=model.name,
            revision=model.revision,
            data=[clean.ids, targets.answer],
            seed=seed,
            study="ablation.sweep",
            how=how,
        ),
    )


def ablate(
    model: Model, prompts: Prompts | Tokens, heads: Heads, how: How = "zero", *, seed: int = 0
) -> list[Intervention]:
    """The interventions that ablate a set of heads together, for `Model.run`, `Model.intervene` or a study's cell.

    Args and errors are those of `sweep`.

    >>> len(ablate(ck.load("deductor-130k"), ["Every wumpus is a dumpus."], [(0, 1), (2, 3)], "mean"))
    2
    """
    return _ablations(model, model.tokens(prompts), _sites(model, heads), how, seed)


def _read(model: Model, prompts: Prompts | Pairs) -> tuple[Tokens, Targets, Tensor | None]:
    if isinstance(prompts, Pairs):
        aligned = prompts.on(model)
        return aligned.clean, aligned.targets, aligned.groups
    tokens = model.tokens(prompts)
    likeliest = model.run(tokens, logits_at=-1).logits.argmax(-1, keepdim=True)
    return tokens, Targets(likeliest), None


def _sites(model: Model, heads: Heads) -> list[Site]:
    if heads == "all":
        named = [(layer, head) for layer in model.layers_with("z") for head in range(model.n_heads(layer))]
    else:
        named = [(int(layer), int(head)) for layer, head in heads]
    return [model.sites(Site("z", layer=layer, head=head))[0] for layer, head in named]


def _ablations(model: Model, tokens: Tokens, sites: list[Site], how: How, seed: int) -> list[Intervention]:
    if how == "zero":
        return [zero(site) for site in sites]
    places = list(dict.fromkeys(site.place for site in sites))
    kept = model.run(tokens, capture=places).cache
    if how == "mean":
        means = {place: mean_value(kept, place, tokens) for place in places}
        return [mean(site, means[site.place][site.head or 0]) for site in sites]
    other = _others(tokens, seed)
    return [replace(site, kept[site][other]) for site in sites]


def mean_value(kept: Cache, site: Site, tokens: Tokens) -> Float[Tensor, "head d_head"]:
    """A captured site's mean over all real tokens of all prompts."""
    value = kept[site]
    return value[tokens.mask.to(value.device)].mean(0)


def _others(tokens: Tokens, seed: int) -> Tensor:
    """Another prompt for each prompt: a random cyclic order, so that none is given itself."""
    if len(tokens) < 2:
        raise PromptError("resampling takes a head's output from another prompt: give two prompts or more")
    if bool((tokens.lengths != tokens.lengths[0]).any()):
        raise PromptError(
            f"resampling goes position by position, but the prompts have {int(tokens.lengths.min())} to "
            f"{int(tokens.lengths.max())} tokens: give prompts of one length, or ablate to the mean"
        )
    order = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(seed))
    others = torch.empty_like(order)
    others[order] = order.roll(1)
    return others
