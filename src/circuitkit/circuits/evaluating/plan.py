"""What each destination of some circuits reads, as sums that share as much as they can."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from circuitkit.circuits.attributing.entrances import PROJECTED, Projected
from circuitkit.circuits.graphs.layout import Layout


@dataclass(frozen=True, eq=False)
class Mixtures:
    """Streams that are read, as what is added to the run's own or to the replacement's.

    What a source writes in this run less what it writes in the replacement is its change. A stream with few of its
    sources in the circuit is the replacement's with their changes; one with few outside is the run's own less theirs.

    Attributes:
        coefficients: of each source's change: 1, −1 or 0.
        replaced: which streams are made from the replacement's; the others from the run's own.
    """

    coefficients: Float[Tensor, "stream source"]
    replaced: Bool[Tensor, " stream"]

    @classmethod
    def of(cls, members: Bool[Tensor, "source stream"]) -> Mixtures:
        """The streams in which these of their sources, of all that reach them, are in the circuit."""
        inside = members.T
        replaced = 2 * inside.sum(1) <= inside.shape[1]
        signs = torch.where(replaced[:, None], inside.float(), -(~inside).float())
        return cls(signs, replaced)

    @property
    def is_own(self) -> bool:
        """Whether every stream is the run's own."""
        return not bool(self.replaced.any() | self.coefficients.any())

    def select(self, streams: slice) -> Mixtures:
        """Some of the streams."""
        return Mixtures(self.coefficients[streams], self.replaced[streams])

    def __len__(self) -> int:
        return len(self.replaced)


@dataclass(frozen=True, eq=False)
class AttentionReads:
    """What a layer's attention reads in one circuit.

    Attributes:
        mixtures: the streams that are neither the run's own nor the replacement's, each once.
        readers: of each of these, which heads read it by which projection.
        empty: by projection, which heads read the replacement's stream.
    """

    mixtures: Mixtures
    readers: tuple[dict[Projected, list[int]], ...]
    empty: dict[Projected, Bool[Tensor, " head"]]

    @classmethod
    def of(cls, layout: Layout, layer: int, members: Bool[Tensor, "sources destinations"]) -> AttentionReads:
        """The reads of a layer in the circuit of these members."""
        at = layout.attention_at(layer)
        inside = members[layout.before_attention(layer), at]
        whole, empty = inside.all(0), ~inside.any(0)
        mixed = (~whole & ~empty).nonzero().flatten()
        patterns, which = torch.unique(inside[:, mixed], dim=1, return_inverse=True)
        places = {
            "q": layout.queries_at(layer),
            "k": layout.keys_at(layer),
            "v": layout.values_at(layer),
        }
        readers: list[dict[Projected, list[int]]] = [{} for _ in range(patterns.shape[1])]
        for kind in PROJECTED:
            span = places[kind]
            for column, stream in zip((mixed + at.start).tolist(), which.tolist(), strict=True):
                if span.start <= column < span.stop:
                    readers[stream].setdefault(kind, []).append(column - span.start)
        gone: dict[Projected, Tensor] = {
            kind: empty[places[kind].start - at.start : places[kind].stop - at.start] for kind in PROJECTED
        }
        return cls(Mixtures.of(patterns), tuple(readers), gone)


@dataclass(frozen=True, eq=False)
class Plan:
    """What is read in one circuit, layer by layer.

    Attributes:
        attention: of each layer.
        mlp: of each layer, one stream; its sources are all that reach it.
        logits: one stream.
    """

    attention: tuple[AttentionReads, ...]
    mlp: tuple[Mixtures, ...]
    logits: Mixtures

    @cached_property
    def used(self) -> Bool[Tensor, " source"]:
        """The sources whose change any stream is made with."""
        used = self.logits.coefficients.any(0)
        for mixtures in (*(each.mixtures for each in self.attention), *self.mlp):
            used[: mixtures.coefficients.shape[1]] |= mixtures.coefficients.any(0)
        return used

    @classmethod
    def of(cls, layout: Layout, members: Bool[Tensor, "sources destinations"]) -> Plan:
        """The plan of a circuit."""
        layers = range(layout.n_layers)
        mlps = (members[layout.before_mlp(layer), layout.mlp_input_at(layer)][:, None] for layer in layers)
        return cls(
            tuple(AttentionReads.of(layout, layer, members) for layer in layers),
            tuple(map(Mixtures.of, mlps)),
            Mixtures.of(members[:, layout.logits_at][:, None]),
        )
