"""Steering: a direction in which two sets of prompts differ, to be added to the stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from circuitkit.model.site import ATTENTION_KINDS, Site, SiteError
from circuitkit.model.tokens import Prompts, Tokens

if TYPE_CHECKING:
    from circuitkit.model.model import Model


def difference_in_means(
    model: Model, towards: Prompts | Tokens, away: Prompts | Tokens, site: Site | str
) -> Float[Tensor, "..."]:
    """The mean of a site over one set of prompts less its mean over another: a vector to steer by, with `ck.add`.

    Args:
        model: the model.
        towards: prompts that have what is steered towards.
        away: prompts that lack it; their number and lengths may differ.
        site: a site of one layer. With a position, the mean is over prompts at that position; without, over all their
            real tokens.

    Returns:
        A vector of the site's last axis, `[d_model]` for the stream; `[head, d_head]` for kinds with heads, of which
        none is named.

    Raises:
        SiteError: the site names no layer, or attention, whose values have no direction.

    Source: Marks & Tegmark 2023, arXiv 2310.06824 (difference in means); Rimsky et al. 2023, arXiv 2312.06681.

    >>> model = ck.load("deductor-130k")
    >>> vector = difference_in_means(model, ["Alex is a wumpus."], ["Alex is not a wumpus."], "resid_post[layer=1]")
    >>> run = model.run("Alex is a", [ck.add("resid_post[layer=1]", 2 * vector)])
    """
    sites = model.sites(site)
    if len(sites) != 1 or sites[0].kind in ATTENTION_KINDS:
        raise SiteError(f"a direction is that of one layer's activations, not of {site}")
    return _mean(model, towards, sites[0]) - _mean(model, away, sites[0])


def _mean(model: Model, prompts: Prompts | Tokens, site: Site) -> Float[Tensor, "..."]:
    tokens = model.tokens(prompts)
    value = model.run(tokens, capture=[site], logits_at=-1).cache[site]
    return value.mean(0) if site.position is not None else value[tokens.mask.to(value.device)].mean(0)
