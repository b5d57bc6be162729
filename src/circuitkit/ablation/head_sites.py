"""Heads by their numbers: the sites that ablations act on, and how many each layer has."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from circuitkit.model.site import Site, SiteError

if TYPE_CHECKING:
    from circuitkit.model.model import Model

Heads = Literal["all"] | Iterable[tuple[int, int]]


def head_sites(model: Model, heads: Heads) -> list[Site]:
    """The `z` sites of heads, each once, in the order in which they are first named.

    Raises:
        SiteError: a head does not exist, or heads are not named as `(layer, head)` pairs.
    """
    return list(dict.fromkeys(named_sites(model, heads)))


def named_sites(model: Model, heads: Heads) -> list[Site]:
    """The `z` sites of heads as they are named, one that is named twice twice; errors are those of `head_sites`."""
    if isinstance(heads, str) and heads == "all":
        named = [(layer, head) for layer in model.layers_with("z") for head in range(model.n_heads(layer))]
    else:
        named = _named(heads)
    return [model.sites(Site("z", layer=layer, head=head))[0] for layer, head in named]


def _named(heads: Any) -> list[tuple[int, int]]:
    wanted = 'heads are (layer, head) pairs, such as [(2, 1), (3, 0)], or "all"'
    if isinstance(heads, str):
        raise SiteError(f"{wanted}, not {heads!r}")
    named = []
    try:
        for each in heads:
            layer, head = each
            named.append((operator.index(layer), operator.index(head)))
    except (TypeError, ValueError) as error:
        raise SiteError(f"{wanted}, not {heads!r}") from error
    return named


def head_of(site: Site) -> tuple[int, int]:
    """A head's site as `(layer, head)`."""
    assert site.layer is not None and site.head is not None  # head_sites names both
    return site.layer, site.head


def head_counts(model: Model) -> list[int]:
    """Heads in each layer; 0 where a layer has none."""
    having = set(model.layers_with("z"))
    return [model.n_heads(layer) if layer in having else 0 for layer in range(model.n_layers)]
