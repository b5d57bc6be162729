"""A layer's pattern, handed out some rows at a time, so that no map of all queries and all keys is ever held.

While such a layer runs, the attention function that the model was loaded with gives the output, and the module's own
eager function is run beside it on blocks of queries, as far as its softmax: soft-caps, sinks, biases and windows stay
the model's own code. A block's keys end where everything behind them is forbidden, and begin where everything before
them is. Where that cannot be done, one layer's whole pattern is held for as long as it is read: where the model was
loaded with eager attention, which makes the whole map anyway; where an intervention edits scores or the pattern; and
in models that compute attention inside their module's forward (BLOOM, GPT-J, MPT, Falcon, OpenELM).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import get_ident
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from circuitkit.model.attention import AttentionCall, AttentionTap, lowest_score
from circuitkit.model.points import Point
from circuitkit.model.sharding import Shard

_NUMBERS_AT_ONCE = {"cpu": 1 << 21}
_NUMBERS_AT_ONCE_ELSEWHERE = 1 << 26
_FEWEST_ROWS = 16


@dataclass(frozen=True)
class PatternBlock:
    """Some queries' rows of a pattern.

    Attributes:
        weights: at least of single precision; every weight on a key that is not among `keys` is 0.
        queries: which columns of the batch the rows are.
        keys: which columns of the batch the weights are on.
    """

    weights: Float[Tensor, "batch head query key"]
    queries: slice
    keys: slice


class PatternBlocks(Protocol):
    """A pattern as blocks of rows, from the first query on; it may be gone through several times."""

    def __iter__(self) -> Iterator[PatternBlock]:
        """The blocks, each made when it is asked for."""


Reader = Callable[[PatternBlocks], None]


def block_tap(point: Point, read: Reader) -> AttentionTap:
    """A tap that hands a module's pattern to a reader in blocks, and leaves the module's output as it is.

    The reader is not told of forwards in other threads.
    """
    thread = get_ident()

    def beside(call: AttentionCall) -> None:
        if get_ident() == thread:
            read(_Made(call, point.shard))

    def whole(pattern: Tensor) -> None:
        if get_ident() == thread:
            read(_Held(pattern.detach(), point.shard))

    return AttentionTap(point.module, lambda scores: None, whole, beside=beside)


@dataclass(frozen=True)
class _Made:
    """Blocks that are made anew whenever they are asked for."""

    call: AttentionCall
    shard: Shard | None

    def __iter__(self) -> Iterator[PatternBlock]:
        n_queries, n_keys = self.call.query.shape[-2], self.call.key.shape[-2]
        for rows in row_blocks(self.call.query.shape[0] * self.call.query.shape[1], n_queries, n_keys, self.device):
            mask = self.call.explicit_mask(rows)
            keys = slice(0, n_keys) if mask is None else _reach(mask)
            made: list[Tensor] = []
            self.call.rows(rows, keys, mask if mask is None else mask[..., keys], made.append)
            yield PatternBlock(_lifted(made.pop(), self.shard), slice(rows.start, rows.stop), keys)

    @property
    def device(self) -> torch.device:
        return self.call.query.device


@dataclass(frozen=True)
class _Held:
    """Blocks of a pattern that is there as a whole."""

    pattern: Float[Tensor, "batch head query key"]
    shard: Shard | None

    def __iter__(self) -> Iterator[PatternBlock]:
        batch, heads, n_queries, n_keys = self.pattern.shape
        for rows in row_blocks(batch * heads, n_queries, n_keys, self.pattern.device):
            at = slice(rows.start, rows.stop)
            yield PatternBlock(_lifted(self.pattern[:, :, at], self.shard), at, slice(0, n_keys))


def row_blocks(n_maps: int, n_queries: int, n_keys: int, device: torch.device) -> Iterator[range]:
    """Rows that are made at once: at most an eighth of a long map, and so many that a block stays small.

    >>> list(row_blocks(12, 40, 40, torch.device("cpu")))
    [range(0, 16), range(16, 32), range(32, 40)]
    """
    most = _NUMBERS_AT_ONCE.get(device.type, _NUMBERS_AT_ONCE_ELSEWHERE) // (n_maps * n_keys)
    size = max(_FEWEST_ROWS, min(most, n_queries // 8))
    for first in range(0, n_queries, size):
        yield range(first, min(first + size, n_queries))


def _reach(mask: Tensor) -> slice:
    """The keys from the first that some row may attend to up to the last one."""
    allowed = (mask > lowest_score(mask.dtype)).flatten(0, -2).any(0).nonzero()
    # Rows of padding alone may attend to nothing, and are read by nobody.
    return slice(int(allowed[0]), int(allowed[-1]) + 1) if len(allowed) else slice(0, 1)


def _lifted(weights: Tensor, shard: Shard | None) -> Tensor:
    whole = weights if shard is None else shard.gathered(weights)
    return whole.float() if whole.element_size() < 4 else whole
