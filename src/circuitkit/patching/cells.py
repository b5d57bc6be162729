"""The cells of a patching study: which sites each patches, and where it stands among the study's axes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from circuitkit.model.site import HEAD_KINDS, KEY_VALUE_KINDS, Kind, Site, SiteError
from circuitkit.model.tokens import PromptError, absolute
from circuitkit.pairs import AlignedPairs, PairError, prompt_text
from circuitkit.study import Study

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
        keys: Iterable[int] | None = None,
    ) -> Cells:
        """A kind over windows of layers, its heads if it has any, and positions and keys if they are asked for.

        Raises:
            SiteError: a layer does not have the kind, or is named twice; the kind has no keys; there are fewer layers
                than a window has; no query comes at or behind any of the keys.
        """
        windows = _windows(model, kind, layers, window)
        labels: dict[str, tuple[str, ...]] = {}
        if window > 1:
            labels["layer"] = tuple(_shown([_layer(site) for site in each]) for each in windows)
        if positions is None and kind not in HEAD_KINDS:
            labels["position"] = pairs.labels(model)
            positions = range(len(labels["position"]))
        # Beside keys, positions are queries, as wherever edges are named.
        along = "position" if keys is None else "query"
        axes = {
            "layer": [_layer(each[0]) for each in windows],
            "head": range(max(_count(model, each[0]) for each in windows)) if kind in HEAD_KINDS else None,
            along: positions,
            "key": keys,
        }
        coordinates = {axis: tuple(entries) for axis, entries in axes.items() if entries is not None}
        sites, index = [], []
        for place in product(*(range(len(entries)) for entries in coordinates.values())):
            at = {axis: coordinates[axis][entry] for axis, entry in zip(coordinates, place, strict=True)}
            head, position, key = at.get("head"), at.get(along), at.get("key")
            cell = tuple(site.at(head=head, position=position, key=key) for site in windows[place[0]])
            if (head is None or head < _count(model, cell[0])) and _seen(pairs, position, key):
                sites.append(cell)
                index.append(place)
        if not sites:
            queries, attended = (list(coordinates.get(axis, ())) for axis in (along, "key"))
            raise SiteError(f"none of the queries {queries} comes at or behind any of the keys {attended}")
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

    def require_positions_of_prompts(self, study: Study) -> None:
        """Refuse positions that a prompt lacks, and those counted from the end where an answer is read behind it.

        Raises:
            PromptError: a prompt is too short; it is named.
            PairError: positions counted from the end would count the answer.
        """
        from_the_end = any(min(site.position or 0, site.key or 0) < 0 for each in self.sites for site in each)
        if from_the_end and study.tokens is not study.base:
            raise PairError(
                "with answers of several tokens, negative positions would count the answer: name them from 0"
            )
        named = dict.fromkeys(at for each in self.sites for site in each for at in (site.position, site.key))
        for position in named:
            self._require(study, position)

    def _require(self, study: Study, position: int | None) -> None:
        if position is None:
            return
        lengths = study.tokens.lengths.tolist()
        for row, length in enumerate(lengths):
            if not -length <= position < length:
                text = prompt_text(study.model, study.base, row)
                raise PromptError(
                    f"position {position} does not exist in prompt {row}, which has {length} tokens, so it has the "
                    f"positions 0 to {length - 1}, or -{length} to -1 from its end: {text}"
                )

    def filled(self, values: Float[Tensor, "cell example"]) -> Float[Tensor, "*cells example"]:
        """The cells' values along their axes; NaN where a layer has no such head, or a query comes before its key."""
        sizes = [len(entries) for entries in self.coordinates.values()]
        whole = torch.full((*sizes, values.shape[-1]), torch.nan, dtype=values.dtype)
        for place, value in zip(self.index, values, strict=True):
            whole[place] = value
        return whole


def _windows(model: Model, kind: Kind, layers: Iterable[int] | None, window: int) -> list[list[Site]]:
    """The kind in so many layers, one after another among those that are named, in the model's order."""
    whole = model.sites(Site(kind)) if layers is None else [model.sites(Site(kind, layer=at))[0] for at in layers]
    whole = sorted(whole, key=_layer)
    if repeated := [_layer(each) for each, after in pairwise(whole) if each == after]:
        raise SiteError(f"layer {repeated[0]} is named twice among the layers of the sweep: name it once")
    if not 1 <= window <= len(whole):
        raise SiteError(f"a window of {window} layers does not fit the {len(whole)} layers of the sweep")
    if window > 1 and kind in HEAD_KINDS:
        raise SiteError(
            f"heads of one number have nothing to do with each other in different layers, so {kind!r} takes no "
            "window: name sets of heads instead"
        )
    return [whole[first : first + window] for first in range(len(whole) - window + 1)]


def _seen(pairs: AlignedPairs, query: int | None, key: int | None) -> bool:
    """Whether any pair's query can attend to the key."""
    if query is None or key is None:
        return True
    return bool((absolute(query, pairs.clean.lengths) >= absolute(key, pairs.clean.lengths)).any())


def _shown(layers: Sequence[int]) -> str:
    """A window's layers: its ends where they are neighbours, otherwise each."""
    neighbours = layers[-1] - layers[0] == len(layers) - 1
    return f"{layers[0]}–{layers[-1]}" if neighbours else ", ".join(map(str, layers))


def _layer(site: Site) -> int:
    assert site.layer is not None  # Model.sites names it
    return site.layer


def _count(model: Model, site: Site) -> int:
    count = model.n_kv_heads if site.kind in KEY_VALUE_KINDS else model.n_heads
    return count(_layer(site))
