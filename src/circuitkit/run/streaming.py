"""Patterns read as they stream by: one run of prompts, each layer's pattern handed on in blocks of queries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from torch import Tensor

from circuitkit.model.attention import tapped
from circuitkit.model.pattern_blocks import PatternBlocks, block_tap
from circuitkit.model.sharding import check_same_prompts
from circuitkit.model.site import Site, SiteError
from circuitkit.model.tokens import Tokens
from circuitkit.run.here import require_modules
from circuitkit.run.interventions import InterventionError
from circuitkit.run.run import forward, nan_advice, nan_row
from circuitkit.run.session import check_dropout

if TYPE_CHECKING:
    from circuitkit.model.model import Model

_TOKENS_AT_ONCE = {"cpu": 2048}
_TOKENS_AT_ONCE_ELSEWHERE = 16384


def stream(model: Model, tokens: Tokens, layers: Sequence[int], read: Callable[[int, PatternBlocks], None]) -> None:
    """Run a token batch once, and hand each named layer's pattern to a reader when the model comes to it.

    The pattern is as interventions of open contexts leave it. Columns are those of the batch, padding included; rows of
    padding hold numbers that mean nothing.

    Raises:
        SiteError: a layer does not exist, has no pattern, or shares its attention module with another named one.
        InterventionError: a layer's attention never ran, the logits hold NaN, or dropout is on.
    """
    require_modules(model)
    check_dropout(model)
    check_same_prompts(model.group, tokens)
    points = {layer: model.point(Site("pattern", layer=layer)) for layer in layers}
    seen: set[int] = set()
    owners: dict[int, int] = {}
    for layer, point in points.items():
        if (other := owners.setdefault(id(point.module), layer)) != layer:
            raise SiteError(f"layers {other} and {layer} of {model.name} share one attention module: name one of them")

    def once(layer: int, blocks: PatternBlocks) -> None:
        if layer not in seen:
            seen.add(layer)
            read(layer, blocks)

    taps = [block_tap(point, partial(once, layer)) for layer, point in points.items()]
    with torch.no_grad(), tapped(taps):
        logits = forward(model, tokens, tokens.columns(-1)[:, None])[:, 0]
    if (row := nan_row(logits)) is not None:
        raise InterventionError(f"the logits of row {row} hold NaN: {nan_advice(model)}")
    if missed := [layer for layer in layers if layer not in seen]:
        raise InterventionError(f"the attention of layer {missed[0]} never ran in this forward, so it has no pattern")


def row_batches(model: Model, tokens: Tokens, size: int | None) -> Iterator[tuple[Int[Tensor, " row"], slice]]:
    """Rows that are run together, rows of like length beside each other, and the columns that they have tokens in.

    Args:
        model: runs them; all rows together where a context is open on it, which may name rows.
        tokens: all rows.
        size: rows at once; as many as are worth it if None.

    Raises:
        ValueError: a size under 1.
    """
    if size is not None and size < 1:
        raise ValueError(f"batches of {size} rows hold nothing: give 1 or more")
    order = tokens.lengths.argsort(descending=True, stable=True)
    if model.sessions:
        yield torch.arange(len(tokens), device=order.device), slice(0, tokens.ids.shape[1])
        return
    most = _TOKENS_AT_ONCE.get(tokens.ids.device.type, _TOKENS_AT_ONCE_ELSEWHERE)
    at = 0
    while at < len(order):
        rows = order[at : at + (size or max(1, most // int(tokens.lengths[order[at]])))]
        columns = tokens.mask[rows].any(0).nonzero()
        yield rows, slice(int(columns[0]), int(columns[-1]) + 1)
        at += len(rows)


def batch_of(tokens: Tokens, rows: Int[Tensor, " row"], columns: slice) -> Tokens:
    """Some rows of a token batch, in some of its columns."""
    return Tokens(tokens.ids[rows][:, columns], tokens.mask[rows][:, columns])
