"""A cache of keys and values whose rows can be filled anew: a row that has ended makes room for another prompt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from jaxtyping import Int
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

_SPARE = 64
"""Columns that are made at a time, so that a token is written in place and seldom anything is copied."""


class RowsLayer(DynamicLayer):  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    """One layer's keys and values, each `[row, head, column, d_head]`: a stretch of buffers with columns to spare.

    Every row ends at the last column; what it does not fill on the left is padding, which its mask hides.
    """

    keys: Tensor
    values: Tensor

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.lazy_initialization(keys, values)
        self._rebuild(keys, values)

    def _rebuild(self, keys: Tensor, values: Tensor, left: int = 0) -> None:
        """Move keys and values to buffers of their own, with so many empty columns before them."""
        width = left + keys.shape[-2]
        shapes = [(*each.shape[:-2], width + _SPARE, each.shape[-1]) for each in (keys, values)]
        # Zeros, since what is hidden still counts nothing times its value, and memory may hold NaN.
        self._buffers = (keys.new_zeros(shapes[0]), values.new_zeros(shapes[1]))
        for buffer, states in zip(self._buffers, (keys, values), strict=True):
            buffer[..., left:width, :] = states
        self._start, self._end = 0, width
        self._show()

    def _show(self) -> None:
        self.keys, self.values = (buffer[..., self._start : self._end, :] for buffer in self._buffers)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append columns, and give all keys and values."""
        new = key_states.shape[-2]
        if self._end + new > self._buffers[0].shape[-2]:
            self._rebuild(self.keys, self.values)
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[..., self._end : self._end + new, :] = states
        self._end += new
        self._show()
        return self.keys, self.values

    def put(self, rows: Int[Tensor, " row"], keys: Tensor, values: Tensor) -> None:
        """Put other rows, which end at the last column too, in the place of these."""
        missing = keys.shape[-2] - self.keys.shape[-2]
        if missing > 0:
            self._rebuild(self.keys, self.values, missing)
        for held, states in ((self.keys, keys), (self.values, values)):
            held[rows.to(held.device), :, held.shape[-2] - states.shape[-2] :] = states

    def select(self, rows: Int[Tensor, " row"]) -> None:
        """Keep these rows, in this order."""
        here = rows.to(self.keys.device)
        self._rebuild(self.keys[here], self.values[here])

    def trim(self, columns: int) -> None:
        """Leave out the first columns."""
        self._start += columns
        self._show()


class RowsCache(DynamicCache):
    """All layers' keys and values, made from those of prompts.

    Args:
        prefilled: a cache of prompts, padded on the left.
        rows: which of its rows, in which order; one may stand for several.
    """

    def __init__(self, prefilled: DynamicCache, rows: Int[Tensor, " row"]) -> None:
        super().__init__()
        self._rows = [RowsLayer(keys, values) for keys, values in _chosen(prefilled, rows)]
        self.layers = list(self._rows)

    def put(self, rows: Int[Tensor, " row"], prefilled: DynamicCache, chosen: Int[Tensor, " row"]) -> None:
        """Put chosen rows of a cache of prompts in the place of these."""
        for layer, (keys, values) in zip(self._rows, _chosen(prefilled, chosen), strict=True):
            layer.put(rows, keys, values)

    def select(self, rows: Int[Tensor, " row"]) -> None:
        """Keep these rows, in this order."""
        for layer in self._rows:
            layer.select(rows)

    def trim(self, columns: int) -> None:
        """Leave out the first columns, which are padding in all rows."""
        for layer in self._rows:
            layer.trim(columns)


def _chosen(prefilled: DynamicCache, rows: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    layers: Any = prefilled.layers
    for layer in layers:
        yield layer.keys[rows.to(layer.keys.device)], layer.values[rows.to(layer.values.device)]
