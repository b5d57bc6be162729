"""Interventions on attention patterns: a head made to attend to named tokens, and patterns held as they were."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from circuitkit.model.site import Site
from circuitkit.model.tokens import Prompts, Tokens
from circuitkit.run.interventions import During, Intervention, InterventionError, Positions, between

if TYPE_CHECKING:
    from circuitkit.model.model import Model


def force(
    layer: int,
    head: int | None = None,
    queries: Positions = None,
    keys: Positions = None,
    weight: float | Float[Tensor, " batch"] = 1.0,
    *,
    during: During = "both",
) -> Intervention:
    """Make a head attend to named tokens: put a part of each query's attention on them, in equal shares.

    With p a query's row of the pattern, s its sum (1, or what an attention sink leaves), K the named keys that the
    query can see and w the weight, the new row is w·s / |K| on K, and p_j · (1 − w)·s / Σ_{i ∉ K} p_i elsewhere. So it
    sums to s as before, and a sink keeps what it has. Others that had no attention at all share (1 − w)·s alike; where
    there are no others, K has all of s. A query that sees none of the keys stays as it was. A sliding window does not
    keep a query from a named key.

    Args:
        layer: whose attention.
        head: which query head; None for all.
        queries: positions attended from, of all rows or of each (see `Span.positions`); None for all.
        keys: positions attended to, likewise.
        weight: the part w, from 0 to 1, or each row's own.
        during: whether it holds for queries in the prompt, in generated tokens, or both.

    Raises:
        InterventionError: no keys are named, or a weight is not from 0 to 1.

    >>> pattern = Site("pattern", layer=1, head=2, position=-1)
    >>> forced = force(1, head=2, queries=-1, keys=[0, 1], weight=0.6)
    >>> run = ck.load("deductor-130k").run("Every wumpus is a dumpus.", [forced], capture=[pattern])
    >>> run.cache[pattern][0, :2].tolist()
    [0.3..., 0.3...]
    """
    if keys is None:
        raise InterventionError("attention is forced onto keys: name them, e.g. keys=[0], or Span.positions")
    weights = torch.as_tensor(weight, dtype=torch.float64)
    if weights.ndim > 1 or not bool(((weights >= 0) & (weights <= 1)).all()):
        raise InterventionError(f"the weight is a number from 0 to 1, or one a row, not {weight}")
    forced = Intervention(Site("pattern", layer=layer, head=head), "force", weights, during)
    return between(forced, queries, keys)


def freeze(
    model: Model,
    source: Prompts | Tokens,
    *,
    layers: Iterable[int] | None = None,
    heads: Iterable[tuple[int, int]] | None = None,
    attention_mask: Int[Tensor, "batch column"] | None = None,
    during: During = "both",
) -> list[Intervention]:
    """Replace every pattern by that of another run, so that only what heads read and write carries a change.

    Patterns are put where they were by position, whatever the padding on either side. Each source row is at least as
    long as the prompt that it is for, and one source row serves all. Tokens generated at positions that the source
    has are held too: take prompt and continuation as the source. Those beyond it attend freely.

    Args:
        model: the model.
        source: the prompts whose patterns are kept.
        layers: which layers; all that have patterns if None.
        heads: `(layer, head)` pairs, instead of whole layers.
        attention_mask: 1 on real tokens, for a padded token tensor.
        during: whether it holds in the prompt, in generated tokens, or both.

    Raises:
        SiteError: a layer or head does not exist, or its pattern cannot be reached.
        InterventionError: once run, that a source row is shorter than its prompt.

    >>> model = ck.load("deductor-130k")
    >>> frozen = freeze(model, "Every wumpus is a dumpus.")
    >>> model.run("Every lempus is a dumpus.", frozen).logits.shape[1]
    6
    """
    if layers is not None and heads is not None:
        raise InterventionError("name layers or heads, not both")
    tokens = model.tokens(source, attention_mask)
    if heads is not None:
        named = [Site("pattern", layer=layer, head=head) for layer, head in heads]
    elif layers is not None:
        named = [Site("pattern", layer=layer) for layer in layers]
    else:
        named = [Site("pattern")]
    sites = [site for each in named for site in model.sites(each)]
    kept = model.run(tokens, capture=list(dict.fromkeys(site.place for site in sites)), logits_at=-1).cache
    return [Intervention(site, "replace", kept[site], during, value_positions=tokens.positions) for site in sites]
