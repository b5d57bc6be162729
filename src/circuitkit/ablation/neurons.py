"""Ablation of MLP neurons: entries of what enters an MLP's down projection."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from circuitkit.metrics import Compute, Metric
from circuitkit.model.site import Site, SiteError
from circuitkit.model.tokens import Prompts, Tokens
from circuitkit.pairs import Pairs
from circuitkit.results import Result
from circuitkit.run.interventions import Intervention, add
from circuitkit.study import Study

if TYPE_CHECKING:
    from circuitkit.model.model import Model

Neuron = tuple[int, int]


def sweep(
    model: Model,
    prompts: Prompts | Pairs,
    neurons: Iterable[Neuron],
    how: Literal["zero", "mean"] = "zero",
    metric: Metric | Compute | str | None = None,
    *,
    reference: Prompts | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Result:
    """Ablate one MLP neuron at a time, at all positions, and measure what the clean run loses.

    Args:
        neurons: `(layer, neuron)` pairs; a neuron is an entry of the down projection's input.
        how: "zero" silences it; "mean" holds it at its mean over all real tokens of the reference prompts, which are
            the ablated prompts themselves if None.

    The other arguments are those of `ablation.sweep`.

    Returns:
        A result with the axes `("layer", "neuron")`, over the layers and neurons that are named; NaN for those of
        their combinations that are not.

    Raises:
        SiteError: a layer has no down projection of its own (a mixture of experts), or no such neuron.

    >>> model = ck.load("deductor-130k")
    >>> sweep(model, ["Every wumpus is a dumpus."], [(0, 3), (1, 3)], progress=False).axes
    ('layer', 'neuron')
    """
    named = list(dict.fromkeys((int(layer), int(neuron)) for layer, neuron in neurons))
    if not named:
        raise ValueError("no neuron is named")
    study = Study.of_prompts(model, prompts, metric)
    means = _means(model, study.tokens, named, how, reference)
    values = study.measured([_ablation(model, means, [each]) for each in named], f"{how} ablation", progress)
    layers, numbers = (tuple(sorted(set(column))) for column in zip(*named, strict=True))
    per_example = torch.full((len(layers), len(numbers), values.shape[-1]), torch.nan, dtype=values.dtype)
    for (layer, neuron), value in zip(named, values, strict=True):
        per_example[layers.index(layer), numbers.index(neuron)] = value
    return study.result(
        per_example,
        ("layer", "neuron"),
        f"Ablating neurons ({how})",
        seed,
        coordinates={"layer": layers, "neuron": numbers},
        study="ablation.neurons.sweep",
        how=how,
    )


def ablate(
    model: Model,
    prompts: Prompts | Tokens,
    neurons: Iterable[Neuron],
    how: Literal["zero", "mean"] = "zero",
    *,
    reference: Prompts | None = None,
) -> list[Intervention]:
    """The interventions that ablate a set of neurons together, for `Model.run` or `Model.intervene`.

    Args and errors are those of `sweep`.

    >>> len(ablate(ck.load("deductor-130k"), ["Every wumpus is a dumpus."], [(0, 1), (0, 5)]))
    1
    """
    named = [(int(layer), int(neuron)) for layer, neuron in neurons]
    return _ablation(model, _means(model, model.tokens(prompts), named, how, reference), named)


def neuron_site(model: Model, layer: int) -> Site:
    """Where a layer's neurons are: the input of its MLP's down projection.

    Raises:
        SiteError: the layer does not exist or has no such projection.

    >>> neuron_site(ck.load("deductor-130k"), 1)
    model.layers.1.mlp.down_proj.input[]
    """
    if not 0 <= layer < model.n_layers:
        raise SiteError(f"layer {layer} does not exist: {model.name} has layers 0 to {model.n_layers - 1}")
    down = model.anatomy.blocks[layer].mlp_down
    paths = [path for path, module in model.anatomy.root.named_modules() if module is down]
    if down is None or not paths:
        raise SiteError(
            f"layer {layer} of {model.name} has no down projection of its own, so it has no neurons to name"
        )
    return Site(module=paths[0], end="input")


def _means(
    model: Model, tokens: Tokens, neurons: Sequence[Neuron], how: str, reference: Prompts | None
) -> dict[int, Float[Tensor, " neuron"]]:
    """What the neurons of each layer are held at."""
    if how not in ("zero", "mean"):
        raise ValueError(f"neurons are ablated to 'zero' or 'mean', not {how!r}")
    if how == "zero" and reference is not None:
        raise ValueError("how='zero' takes nothing from other prompts, so a reference has no use")
    others = tokens if reference is None else model.tokens(reference)
    sites = {layer: neuron_site(model, layer) for layer, _ in neurons}
    kept = model.run(others, capture=list(sites.values()), logits_at=-1).cache
    means = {layer: kept[site][others.mask.to(kept[site].device)].mean(0) for layer, site in sites.items()}
    for layer, neuron in neurons:
        if not 0 <= neuron < len(means[layer]):
            raise SiteError(f"neuron {neuron} does not exist: layer {layer} has neurons 0 to {len(means[layer]) - 1}")
    return means if how == "mean" else {layer: torch.zeros_like(mean) for layer, mean in means.items()}


def _ablation(
    model: Model, means: Mapping[int, Float[Tensor, " neuron"]], neurons: Sequence[Neuron]
) -> list[Intervention]:
    """Each layer's neurons silenced, and put at their mean where that is not zero."""
    interventions = []
    for layer in dict.fromkeys(layer for layer, _ in neurons):
        site, kept = neuron_site(model, layer), torch.ones_like(means[layer])
        kept[[neuron for at, neuron in neurons if at == layer]] = 0
        interventions.append(Intervention(site, "scale", kept))
        if bool(means[layer].any()):
            interventions.append(add(site, means[layer] * (1 - kept)))
    return interventions
