"""The edges that a study of attention goes over: from which tokens to which, in which layers and heads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from circuitkit.model.site import Site, SiteError
from circuitkit.model.tokens import Prompts, Tokens
from circuitkit.pairs import AlignedPairs, Pairs
from circuitkit.run.interventions import Interventions, Rows
from circuitkit.spans import Span

if TYPE_CHECKING:
    from circuitkit.model.model import Model

Axes = Mapping[str, Sequence[int | str] | None]
Cells = Mapping[tuple[int, ...], Interventions]
Places = Literal["each", "all"] | Iterable[int] | Mapping[str, Span]
"""One side of an edge: each position by itself, all together, some positions, or spans by name."""


@dataclass(frozen=True)
class Side:
    """One side of the edges: for each entry, the positions of each row.

    Attributes:
        names: what the entries are called; None where the side has no axis.
        rows: the positions; None for all.
        labels: how the entries are shown.
    """

    names: tuple[int | str, ...] | None
    rows: tuple[Rows | None, ...]
    labels: tuple[str, ...] | None = None

    @classmethod
    def of(cls, model: Model, pairs: Pairs, aligned: AlignedPairs, places: Places) -> Side:
        """The side of pairs, whose positions are those of the clean prompts.

        Raises:
            PairError: each position is asked for, but the pairs have no common ones.
            SpanError: a clean prompt lacks a span or position.
        """
        if isinstance(places, Mapping):
            return cls.of_spans(model, pairs.clean, places)
        if places == "all":
            return cls(None, (None,))
        if isinstance(places, str) and places != "each":
            raise ValueError(f"an edge's side is 'each', 'all', positions, or spans by name, not {places!r}")
        labels = aligned.labels(model) if places == "each" else None
        named = list(range(len(labels))) if labels is not None else [int(position) for position in places]
        rows = tuple(tuple(Span.at(position).positions(model, aligned.clean)) for position in named)
        return cls(tuple(named), rows, labels)

    @classmethod
    def of_spans(cls, model: Model, prompts: Prompts | Tokens, spans: Mapping[str, Span]) -> Side:
        """The side of spans, found in each prompt.

        Raises:
            SpanError: a prompt lacks a span.
        """
        if not spans:
            raise ValueError("there are no spans: name one at least, such as {'question': Span.of_role('question')}")
        return cls(tuple(spans), tuple(tuple(span.positions(model, prompts)) for span in spans.values()))


def edges_between(queries: Side, keys: Side) -> Iterator[tuple[int, int]]:
    """The edges that at least one row has: some query is not before some key."""
    for (k, query), (m, key) in product(enumerate(queries.rows), enumerate(keys.rows)):
        if query is None or key is None or any(max(q) >= min(p) for q, p in zip(query, key, strict=True)):
            yield k, m


def layers_and_heads(
    model: Model, layers: int | Iterable[int] | None, heads: int | Iterable[int] | None
) -> tuple[list[int], list[int]]:
    """Layers and heads that a study goes over, checked to exist; some layers may lack some of the heads.

    Raises:
        SiteError: a layer does not exist or is named twice, or none of the layers has a head, or one is named twice.
    """
    given = model.layers_with("pattern") if layers is None else [layers] if isinstance(layers, int) else layers
    sites = [site for layer in given for site in model.sites(Site("pattern", layer=layer))]
    at = [int(site.layer or 0) for site in sites]
    if not at and layers is not None:
        raise SiteError("no layer is named: name one at least, or leave layers out")
    if not at:
        raise SiteError(f"{model.name} has no layers to patch attention in")
    _require_once("layer", at)
    count = max(model.n_heads(layer) for layer in at)
    if heads is None:
        return at, list(range(count))
    named = [heads] if isinstance(heads, int) else list(heads)
    if not named:
        raise SiteError("no head is named: name one at least, or leave heads out")
    for head in named:
        if not 0 <= head < count:
            raise SiteError(f"head {head} does not exist: layers {at} have heads 0 to {count - 1}")
    _require_once("head", named)
    return at, named


def _require_once(axis: str, named: list[int]) -> None:
    if repeated := [number for number, times in Counter(named).items() if times > 1]:
        raise SiteError(f"{axis} {repeated[0]} is named twice among the {axis}s of the study: name it once")


def laid_out(
    values: Float[Tensor, "cell example"], axes: Axes, cells: Cells
) -> tuple[Float[Tensor, "*cells example"], dict[str, tuple[int | str, ...]]]:
    """Cells' values, by their places along all axes, along those that have names; NaN where no cell is."""
    sizes = [1 if names is None else len(names) for names in axes.values()]
    whole = torch.full((*sizes, values.shape[-1]), torch.nan, dtype=values.dtype)
    for at, value in zip(cells, values, strict=True):
        whole[at] = value
    kept = {axis: tuple(names) for axis, names in axes.items() if names is not None}
    return whole.view(*(len(names) for names in kept.values()), values.shape[-1]), kept
