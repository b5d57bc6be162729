"""The cells of a patching study: which sites each patches, and where it stands among the study's axes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from circuitkit.model.site import HEAD_KINDS, KEY_VALUE_KINDS, Kind, Site, SiteError
from circuitkit.pairs import AlignedPairs

if TYPE_CHECKING:
    from circuitkit.model.model import Model

SiteSets = Mapping[str, Iterable[Site | str]] | Sequence[Iterable[Site | str]]


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells of a study.

    Attributes:
        sites: what each cell patches together.
        index: each cell's place along the axes.
        coordinates: the axes, and what stands along each.
        labels: how the entries along some axes are shown.
    """

    sites: list[tuple[Site, ...]]
    index: list[tuple[int, ...]]
    coordinates: dict[str, tuple[int, ...]]
    labels: dict[str, tuple[str, ...]]

    @classmethod
    def over(
        cls,
        model: Model,
        pairs: AlignedPairs,
        kind: Kind,
        layers: Iterable[int] | None,
        positions: Iterable[int] | None,
        window: int,
    ) -> Cells:
        """A kind over windows of layers, its heads if it has any, and positions if they are asked for.

        Raises:
            SiteError: a layer does not have the kind, or there are fewer layers than a window has.
        """
        whole = model.sites(Site(kind)) if layers is None else [model.sites(Site(kind, layer=at))[0] for at in layers]
        if not 1 <= window <= len(whole):
            raise SiteError(f"a window of {window} layers does not fit the {len(whole)} layers of the sweep")
        if window > 1 and kind in HEAD_KINDS:
            raise SiteError(
                f"heads of one number have nothing to do with each other in different layers, so {kind!r} takes no "
                "window: name sets of heads instead"
            )
        windows = [whole[first : first + window] for first in range(len(whole) - window + 1)]
        coordinates = {"layer": tuple(_layer(each[0]) for each in windows)}
        labels: dict[str, tuple[str, ...]] = {}
        if window > 1:
            labels["layer"] = tuple(f"{_layer(each[0])}–{_layer(each[-1])}" for each in windows)
        heads: Sequence[int | None] = [None]
        if kind in HEAD_KINDS:
            heads = coordinates["head"] = tuple(range(max(_count(model, site) for site in whole)))
        named: Sequence[int | None] = [None]
        if positions is not None:
            named = coordinates["position"] = tuple(positions)
        elif kind not in HEAD_KINDS:
            labels["position"] = pairs.labels(model)
            named = coordinates["position"] = tuple(range(len(labels["position"])))
        sites, index = [], []
        for (at, each), (h, head), (p, position) in product(enumerate(windows), enumerate(heads), enumerate(named)):
            if head is None or head < _count(model, each[0]):
                sites.append(tuple(site.at(head=head, position=position) for site in each))
                places = {"layer": at, "head": h, "position": p}
                index.append(tuple(places[axis] for axis in coordinates))
        return cls(sites, index, coordinates, labels)

    @classmethod
    def of_sets(cls, model: Model, sets: SiteSets) -> Cells:
        """A cell for each set of sites, patched together.

        Raises:
            SiteError: there is no set, one is empty, or a site does not exist.
        """
        named = sets if isinstance(sets, Mapping) else {str(number): each for number, each in enumerate(sets)}
        sites = {name: tuple(site for each in one for site in model.sites(each)) for name, one in named.items()}
        if not sites:
            raise SiteError("there is no set of sites to patch")
        if empty := [name for name, one in sites.items() if not one]:
            raise SiteError(f"set {empty[0]!r} is empty")
        names = tuple(sites) if isinstance(sets, Mapping) else tuple(" ".join(map(str, one)) for one in sites.values())
        numbers = tuple(range(len(sites)))
        return cls(list(sites.values()), [(number,) for number in numbers], {"set": numbers}, {"set": names})

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes' names."""
        return tuple(self.coordinates)

    @property
    def places(self) -> list[Site]:
        """The whole sites that the cells are parts of."""
        return list(dict.fromkeys(site.place for each in self.sites for site in each))

    @property
    def from_the_end(self) -> bool:
        """Whether any cell names a position counted from a row's end."""
        return any((site.position or 0) < 0 for each in self.sites for site in each)

    def filled(self, values: Float[Tensor, "cell example"]) -> Float[Tensor, "*cells example"]:
        """The cells' values along their axes; NaN where a layer has no such head."""
        sizes = [len(entries) for entries in self.coordinates.values()]
        whole = torch.full((*sizes, values.shape[-1]), torch.nan, dtype=values.dtype)
        for place, value in zip(self.index, values, strict=True):
            whole[place] = value
        return whole


def _layer(site: Site) -> int:
    assert site.layer is not None  # Model.sites names it
    return site.layer


def _count(model: Model, site: Site) -> int:
    count = model.n_kv_heads if site.kind in KEY_VALUE_KINDS else model.n_heads
    return count(_layer(site))
