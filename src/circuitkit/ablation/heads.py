"""Head ablation: what the model loses when one head at a time writes nothing, its mean, or another prompt's output."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from circuitkit.ablation.head_sites import Heads, head_counts, head_sites
from circuitkit.ablation.replacements import How, Replacement
from circuitkit.metrics import Compute, Metric
from circuitkit.model.site import Site
from circuitkit.model.tokens import Prompts, Tokens
from circuitkit.pairs import Pairs
from circuitkit.results import Result
from circuitkit.run.interventions import Intervention
from circuitkit.study import Study

if TYPE_CHECKING:
    from circuitkit.model.model import Model


def sweep(
    model: Model,
    prompts: Prompts | Pairs,
    heads: Heads = "all",
    how: How = "zero",
    metric: Metric | Compute | str | None = None,
    *,
    factor: float | None = None,
    reference: Prompts | None = None,
    by_position: bool = False,
    seed: int = 0,
    progress: bool = True,
) -> Result:
    """Ablate one head at a time, at all positions, and measure what the clean run loses.

    Args:
        model: the model.
        prompts: pairs, whose clean prompts and answers are used; or prompts alone, whose answer is then the model's
            own most likely next token.
        heads: `(layer, head)` pairs, or "all"; one that is named twice is ablated once.
        how: "zero" writes nothing; "mean" writes the head's mean `z` over all real tokens of the reference prompts;
            "resample" writes its `z` on another prompt, drawn by the seed, position by position; "scale" multiplies it.
        metric: by default the logit difference of pairs with a distractor, otherwise the KL from the clean run.
        factor: what "scale" multiplies by.
        reference: the prompts of a mean or of resampling; the ablated prompts themselves if None.
        by_position: take a mean at each position, counted from a prompt's first token, over the prompts that reach it.
        seed: of resampling and of the statistics.
        progress: show a bar over the heads.

    Returns:
        A result with the axes `("layer", "head")`; heads not ablated, or that a layer lacks, are NaN.

    Raises:
        SiteError: a named head does not exist, or heads are not named as pairs.
        PromptError: resampling prompts of different lengths, or one prompt alone; reference prompts that are too short.
        ValueError: a setting that the way of ablating does not have.

    Source: Wang et al. 2022, arXiv 2211.00593 (mean); Chan et al. 2022, causal scrubbing (resample).

    >>> result = sweep(ck.load("deductor-130k"), ["Every wumpus is a dumpus."], progress=False)
    >>> result.axes, tuple(result.values.shape)
    (('layer', 'head'), (3, 4))
    """
    replacement = Replacement(how, factor, reference, by_position, seed)
    study, sites = Study.of_prompts(model, prompts, metric), head_sites(model, heads)
    cells = [[each] for each in replacement.at(model, study.tokens, sites).values()]
    values = study.measured(cells, f"{how} ablation", progress)
    return study.result(
        by_head(model, sites, values),
        ("layer", "head"),
        f"Ablating heads ({replacement})",
        seed,
        study="ablation.sweep",
        how=how,
    )


def ablate(
    model: Model,
    prompts: Prompts | Tokens,
    heads: Heads,
    how: How = "zero",
    *,
    factor: float | None = None,
    reference: Prompts | None = None,
    by_position: bool = False,
    seed: int = 0,
) -> list[Intervention]:
    """The interventions that ablate a set of heads together, for `Model.run`, `Model.intervene` or a study's cell.

    Args and errors are those of `sweep`.

    >>> len(ablate(ck.load("deductor-130k"), ["Every wumpus is a dumpus."], [(0, 1), (2, 3)], "mean"))
    2
    """
    replacement = Replacement(how, factor, reference, by_position, seed)
    return list(replacement.at(model, model.tokens(prompts), head_sites(model, heads)).values())


def by_head(
    model: Model, sites: Iterable[Site], values: Float[Tensor, "cell example"]
) -> Float[Tensor, "layer head example"]:
    """Heads' values in a table of all layers and heads, NaN where no head is or none was ablated."""
    per_example = torch.full((model.n_layers, max(head_counts(model)), values.shape[-1]), torch.nan, dtype=values.dtype)
    for site, value in zip(sites, values, strict=True):
        per_example[site.layer, site.head] = value
    return per_example
