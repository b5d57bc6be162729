"""Which nodes and edges a decoder's graph has, and where each stands in an array of scores.

A decoder's stream is a sum. What writes to it is a source, what reads it a destination: a head reads it three times,
by its query, key and value, and heads of a grouped-query layer share keys and values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool
from torch import Tensor

from circuitkit.circuits.errors import CircuitError
from circuitkit.model.site import Kind

if TYPE_CHECKING:
    from circuitkit.model.model import Model

INPUT, LOGITS = "input", "logits"
_NEEDED: tuple[Kind, ...] = ("q", "k", "v", "z", "attn_out", "mlp_out")


@dataclass(frozen=True)
class Layout:
    """The nodes of a decoder, and their places as sources and as destinations.

    Sources: `input` (all that enters the first layer), then for each layer its heads `a0.h0` and its MLP `m0`.
    Destinations: for each layer the query inputs of its heads `a0.h0<q>`, key and value inputs (`a0.h0<k>`, or
    `a0.kv0<k>` where several query heads share one) and the MLP `m0`; last `logits`.

    Attributes:
        n_heads, n_kv_heads: of each layer.
        parallel: of each layer, whether attention and MLP read the same stream.

    Raises:
        CircuitError: the three differ in length, or key/value heads do not divide a layer's heads.

    >>> layout = Layout((2, 2), (1, 1), (False, False))
    >>> layout.sources
    ('input', 'a0.h0', 'a0.h1', 'm0', 'a1.h0', 'a1.h1', 'm1')
    >>> layout.destinations[:5], layout.n_edges
    (('a0.h0<q>', 'a0.h1<q>', 'a0.kv0<k>', 'a0.kv0<v>', 'm0'), 36)
    """

    n_heads: tuple[int, ...]
    n_kv_heads: tuple[int, ...]
    parallel: tuple[bool, ...]

    def __post_init__(self) -> None:
        if not len(self.n_heads) == len(self.n_kv_heads) == len(self.parallel) or not self.n_heads:
            raise CircuitError(
                f"a layout needs heads, key/value heads and parallel or not for each layer, and got "
                f"{len(self.n_heads)}, {len(self.n_kv_heads)} and {len(self.parallel)} layers"
            )
        for layer, (heads, shared) in enumerate(zip(self.n_heads, self.n_kv_heads, strict=True)):
            if heads < 1 or shared < 1 or heads % shared:
                raise CircuitError(f"layer {layer} has {heads} heads and {shared} key/value heads, which do not divide")

    @classmethod
    def of(cls, model: Model) -> Layout:
        """A model's layout.

        Raises:
            CircuitError: a layer's queries, keys, values, `z`, or what it adds to the stream, cannot be told apart.

        >>> Layout.of(ck.load("deductor-130k")).n_edges
        262
        """
        for index, layer in enumerate(model.layers):
            for kind in _NEEDED:
                if kind not in layer.points:
                    raise CircuitError(
                        f"{model.name} has no graph of heads and MLPs: layer {index} has no {kind} "
                        f"({layer.refusals[kind]})"
                    )
        layers = range(model.n_layers)
        return cls(
            tuple(model.n_heads(layer) for layer in layers),
            tuple(model.n_kv_heads(layer) for layer in layers),
            tuple("resid_mid" not in layer.points for layer in model.layers),
        )

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return len(self.n_heads)

    # What there is, by name

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """The name of each row of scores."""
        return (INPUT, *(name for layer in range(self.n_layers) for name in self._writers(layer)))

    @cached_property
    def destinations(self) -> tuple[str, ...]:
        """The name of each column of scores."""
        return (*(name for layer in range(self.n_layers) for name in self._inputs(layer)), LOGITS)

    @property
    def nodes(self) -> tuple[str, ...]:
        """All nodes, from `input` to `logits`."""
        return (*self.sources, LOGITS)

    def _writers(self, layer: int) -> Iterator[str]:
        yield from (head_name(layer, head) for head in range(self.n_heads[layer]))
        yield mlp_name(layer)

    def _inputs(self, layer: int) -> Iterator[str]:
        yield from (f"{head_name(layer, head)}<q>" for head in range(self.n_heads[layer]))
        shared = "kv" if self.n_kv_heads[layer] < self.n_heads[layer] else "h"
        for kind in "kv":
            yield from (f"a{layer}.{shared}{head}<{kind}>" for head in range(self.n_kv_heads[layer]))
        yield mlp_name(layer)

    def source(self, name: str) -> int:
        """The row of a source.

        Raises:
            CircuitError: there is no such source.

        >>> Layout((2,), (2,), (False,)).source("m0")
        3
        """
        return _place(self._rows, name, "source")

    def destination(self, name: str) -> int:
        """The column of a destination.

        Raises:
            CircuitError: there is no such destination.

        >>> Layout((2,), (2,), (False,)).destination("a0.h1<k>")
        3
        """
        return _place(self._columns, name, "destination")

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.sources)}

    @cached_property
    def _columns(self) -> dict[str, int]:
        return {name: column for column, name in enumerate(self.destinations)}

    # Where it stands

    def heads_at(self, layer: int) -> slice:
        """The rows of a layer's heads."""
        start = 1 + sum(self.n_heads[:layer]) + layer
        return slice(start, start + self.n_heads[layer])

    def mlp_at(self, layer: int) -> int:
        """The row of a layer's MLP."""
        return sum(self.n_heads[: layer + 1]) + layer + 1

    def queries_at(self, layer: int) -> slice:
        """The columns of a layer's query inputs."""
        start = sum(self.n_heads[:layer]) + 2 * sum(self.n_kv_heads[:layer]) + layer
        return slice(start, start + self.n_heads[layer])

    def keys_at(self, layer: int) -> slice:
        """The columns of a layer's key inputs, one a key/value head."""
        start = self.queries_at(layer).stop
        return slice(start, start + self.n_kv_heads[layer])

    def values_at(self, layer: int) -> slice:
        """The columns of a layer's value inputs, one a key/value head."""
        start = self.keys_at(layer).stop
        return slice(start, start + self.n_kv_heads[layer])

    def attention_at(self, layer: int) -> slice:
        """The columns of all that a layer's attention reads: queries, keys and values."""
        return slice(self.queries_at(layer).start, self.values_at(layer).stop)

    def mlp_input_at(self, layer: int) -> int:
        """The column of a layer's MLP."""
        return sum(self.n_heads[: layer + 1]) + 2 * sum(self.n_kv_heads[: layer + 1]) + layer

    @property
    def logits_at(self) -> int:
        """The column of the logits, the last."""
        return sum(self.n_heads) + 2 * sum(self.n_kv_heads) + self.n_layers

    def before_attention(self, layer: int) -> slice:
        """The rows that a layer's attention can read: all that is written before the layer."""
        return slice(0, self.heads_at(layer).start)

    def before_mlp(self, layer: int) -> slice:
        """The rows that a layer's MLP can read: its own layer's heads too, unless they are parallel."""
        return slice(0, self.heads_at(layer).start if self.parallel[layer] else self.mlp_at(layer))

    @cached_property
    def reach(self) -> Bool[Tensor, "sources destinations"]:
        """Which sources write before which destinations read: the edges that there are."""
        reach = torch.zeros(len(self.sources), len(self.destinations), dtype=torch.bool)
        for layer in range(self.n_layers):
            reach[self.before_attention(layer), self.attention_at(layer)] = True
            reach[self.before_mlp(layer), self.mlp_input_at(layer)] = True
        reach[:, self.logits_at] = True
        return reach

    @cached_property
    def n_edges(self) -> int:
        """Number of edges."""
        return int(self.reach.sum())

    # Who reads by what

    def inputs_of(self, node: str) -> tuple[int, ...]:
        """The columns by which a node reads: of a head its query, and its key and value, which others may share.

        >>> layout = Layout((2,), (1,), (False,))
        >>> [layout.destinations[column] for column in layout.inputs_of("a0.h1")]
        ['a0.h1<q>', 'a0.kv0<k>', 'a0.kv0<v>']
        """
        if node == INPUT:
            return ()
        if node == LOGITS:
            return (self.logits_at,)
        layer, head = self.layer_and_head(node)
        if head is None:
            return (self.mlp_input_at(layer),)
        shared = head * self.n_kv_heads[layer] // self.n_heads[layer]
        return (
            self.queries_at(layer).start + head,
            self.keys_at(layer).start + shared,
            self.values_at(layer).start + shared,
        )

    @cached_property
    def reads(self) -> Bool[Tensor, "sources destinations"]:
        """Which destinations are inputs of the node that each row belongs to: a head's query, key and value."""
        reads = torch.zeros(len(self.sources), len(self.destinations), dtype=torch.bool)
        for row, name in enumerate(self.sources):
            reads[row, list(self.inputs_of(name))] = True
        return reads

    def layer_and_head(self, node: str) -> tuple[int, int | None]:
        """The layer and head of a head's node; the head is None of an MLP.

        Raises:
            CircuitError: there is no such head or MLP.

        >>> Layout((2,), (2,), (False,)).layer_and_head("a0.h1")
        (0, 1)
        """
        row = self.source(node)
        if row == 0:
            raise CircuitError(f"{INPUT} lies in no layer")
        layer = next(layer for layer in range(self.n_layers) if row <= self.mlp_at(layer))
        head = row - self.heads_at(layer).start
        return layer, head if head < self.n_heads[layer] else None

    def __repr__(self) -> str:
        def told(counts: tuple[int, ...]) -> str:
            return str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"

        shared = "" if self.n_heads == self.n_kv_heads else f", {told(self.n_kv_heads)} key/value heads"
        return f"Layout({self.n_layers} layers, {told(self.n_heads)} heads{shared}, {self.n_edges:,} edges)"


def head_name(layer: int, head: int) -> str:
    """What a head's node is called.

    >>> head_name(3, 5)
    'a3.h5'
    """
    return f"a{layer}.h{head}"


def mlp_name(layer: int) -> str:
    """What an MLP's node is called.

    >>> mlp_name(3)
    'm3'
    """
    return f"m{layer}"


def _place(places: dict[str, int], name: str, role: str) -> int:
    if name in places:
        return places[name]
    near = get_close_matches(name, places, n=3)
    told = f"; did you mean {' or '.join(near)}?" if near else ""
    raise CircuitError(f"there is no {role} {name!r} in this graph{told}")
