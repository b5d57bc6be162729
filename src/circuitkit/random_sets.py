"""Random sets of heads, matched in layer, kind and number, to set beside the sets that a study names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from circuitkit.model.site import KEY_VALUE_KINDS, Site
from circuitkit.statistics import matched_heads

if TYPE_CHECKING:
    from circuitkit.model.model import Model

Sites = tuple[Site, ...]


@dataclass(frozen=True, eq=False)
class RandomSets:
    """Sets of sites, and random ones beside each.

    A random set puts other heads of the same layers in the place of a set's heads, one for one: all that is named of a
    head, such as its query and its key, or several positions, is then named of another. Where queries are grouped, key
    and value heads are drawn from key/value heads. A set of which any site is no head (a stream, an MLP, all heads of
    a layer at once), or which holds every head of its layers, has no random sets.

    Attributes:
        sets: the sets themselves.
        drawn: the random sets beside each.
        disjoint: whether a set's random sets avoid its heads altogether, as they do where its layers have heads enough.
    """

    sets: tuple[Sites, ...]
    drawn: tuple[tuple[Sites, ...], ...]
    disjoint: tuple[bool, ...]

    @classmethod
    def beside(cls, model: Model, sets: Sequence[Sites], draws: int, seed: int) -> RandomSets:
        """Draw the random sets beside each of some sets, as many as there are where these are fewer.

        Raises:
            ValueError: there are to be fewer than 0.

        >>> one = RandomSets.beside(ck.load("deductor-130k"), [(ck.Site("z", 1, 2),)], draws=2, seed=0)
        >>> one.disjoint, [site.layer for sites in one.drawn[0] for site in sites]
        ((True,), [1, 1])
        """
        if draws < 0:
            raise ValueError(f"controls is how many random sets come beside each, 0 or more, not {draws}")
        found = [_matching(model, one, draws, seed) for one in sets]
        return cls(tuple(sets), tuple(drawn for drawn, _ in found), tuple(apart for _, apart in found))

    def among(self, there: Container[Site]) -> RandomSets:
        """Those random sets whose sites are all there."""
        kept = tuple(tuple(one for one in drawn if all(site in there for site in one)) for drawn in self.drawn)
        return RandomSets(self.sets, kept, self.disjoint)

    @cached_property
    def others(self) -> list[Sites]:
        """The random sets that are none of the sets, each once: what is to be measured beside these."""
        return list(self._others.values())

    @cached_property
    def _others(self) -> dict[frozenset[Site], Sites]:
        named = set(map(frozenset, self.sets))
        return {key: one for drawn in self.drawn for one in drawn if (key := frozenset(one)) not in named}

    def controls(
        self, effects: Float[Tensor, "set ..."], others: Float[Tensor, "other ..."]
    ) -> Float[Tensor, "set ... draw"]:
        """The effects of each set's random sets, from those of `sets` and `others`; NaN behind a set's last one."""
        row = {frozenset(one): at for at, one in reversed(list(enumerate([*self.sets, *self.others])))}
        every = torch.cat([effects, others.to(effects)])
        most = max(map(len, self.drawn), default=0)
        beside = effects.new_full((*effects.shape, most), torch.nan)
        for at, drawn in enumerate(self.drawn):
            for number, one in enumerate(drawn):
                beside[at, ..., number] = every[row[frozenset(one)]]
        return beside


def _matching(model: Model, sites: Sites, draws: int, seed: int) -> tuple[tuple[Sites, ...], bool]:
    """Random sets beside one, and whether they share no head with it."""
    if any(site.head is None for site in sites):
        return (), False
    # Where no queries are grouped, a key head is the query head of its number.
    rows = sorted({_row(model, site) for site in sites})
    heads = sorted({(rows.index(_row(model, site)), site.head or 0) for site in sites})
    counts = [model.n_kv_heads(layer) if grouped else model.n_heads(layer) for layer, grouped in rows]
    inside = Counter(row for row, _ in heads)
    if all(inside[row] == count for row, count in enumerate(counts)):
        return (), False
    disjoint = all(2 * inside[row] <= count for row, count in enumerate(counts))
    if not draws:
        return (), disjoint
    drawn = matched_heads(heads, counts, draws=draws, seed=seed, disjoint=disjoint)
    moved: list[Sites] = []
    for one in drawn:
        to = dict(zip(heads, sorted(one), strict=True))
        moved.append(tuple(site.at(head=to[rows.index(_row(model, site)), site.head or 0][1]) for site in sites))
    return tuple(moved), disjoint


def _row(model: Model, site: Site) -> tuple[int, bool]:
    """The heads that a site's is one of: a layer's, and of these the key/value heads where queries share them."""
    assert site.layer is not None  # Model.sites names it
    anatomy = model.layers[site.layer]
    return site.layer, site.kind in KEY_VALUE_KINDS and anatomy.n_kv_heads != anatomy.n_heads
