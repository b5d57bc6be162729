"""What one layer reads, computed anew from streams that are not the model's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from threading import get_ident
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from circuitkit.circuits.attributing.entrances import PROJECTED, Projected
from circuitkit.circuits.attributing.linear_maps import by_heads, head_rows, is_plain, matrix_of
from circuitkit.circuits.errors import CircuitError
from circuitkit.model.devices import weight_of
from circuitkit.model.hooks import before_forward
from circuitkit.model.points import Point, first_tensor
from circuitkit.model.site import Site

if TYPE_CHECKING:
    from circuitkit.model.model import Model

BlockCall = tuple[tuple[Any, ...], Mapping[str, Any]]
"""What a block was called with: whatever its attention needs beside the stream."""


class _ReadError(Exception):
    """Ends a block's forward once its attention has been handed what it projects."""


class AttentionInput:
    """How a layer's attention reads the stream: the layer's own norm, then each head's own slice of a projection."""

    def __init__(self, model: Model, layer: int) -> None:
        self.layer, self.d_model = layer, model.d_model
        self.block = model.anatomy.blocks[layer].block
        self.points: dict[Projected, Point] = {kind: model.point(Site(kind, layer=layer)) for kind in PROJECTED}

    def normed(
        self, streams: Float[Tensor, "row position d_model"], call: BlockCall
    ) -> Float[Tensor, "row position d_model"]:
        """What the projections are handed where the block is handed these streams.

        The block itself is run, up to there: so its norm, scale or whatever else it has on the way is its own.

        Raises:
            CircuitError: the block's attention never came to its projections.
        """
        args, kwargs = _with_stream(call, streams)
        with self._ended_at_the_projections() as read:
            self.block.forward(*args, **kwargs)
        if not read:
            raise CircuitError(f"attention of layer {self.layer} does not project what its layer is handed")
        return read[0]

    @contextmanager
    def _ended_at_the_projections(self) -> Iterator[list[Tensor]]:
        read: list[Tensor] = []
        thread = get_ident()

        def end(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if get_ident() == thread:
                read.append(first_tensor((*args, *kwargs.values())))
                raise _ReadError

        with ExitStack() as stack:
            for module in {id(point.module): point.module for point in self.points.values()}.values():
                # Before all others: whoever holds something at the projection is not asked.
                handle = before_forward(module, end, prepend=True)
                stack.callback(handle.remove)
            try:
                yield read
            except _ReadError:
                return

    def projections(self) -> Projections:
        """How heads are made of what the projections are handed."""
        slices: dict[Projected, tuple[Tensor, Tensor | None]] = {}
        for kind, point in self.points.items():
            if is_plain(point.module):
                matrix = matrix_of(point.module, self.d_model, torch.float32)
                bias = weight_of(point.module, "bias")
                of_heads = None if bias is None else bias[head_rows(point, len(matrix)).to(bias.device)]
                slices[kind] = by_heads(point, matrix), of_heads
        return Projections(self.points, slices)


@dataclass(frozen=True, eq=False)
class Projections:
    """How some heads' queries, keys or values are made, without the others'.

    Attributes:
        points: where each projection is.
        slices: the matrix and bias of each head, of projections that are plain; of others the whole is computed.
    """

    points: Mapping[Projected, Point]
    slices: Mapping[Projected, tuple[Float[Tensor, "head d_head d_model"], Float[Tensor, "head d_head"] | None]]

    def of(
        self, kind: Projected, normed: Float[Tensor, "row position d_model"], heads: Sequence[int]
    ) -> Float[Tensor, "row position head d_head"]:
        """Some heads' queries, keys or values, of what the projection is handed."""
        chosen = list(heads)
        if kind not in self.slices:
            point = self.points[kind]
            whole: Tensor = point.view.read(point.module.forward(normed))
            return whole[:, :, chosen]
        weight, bias = self.slices[kind]
        # A slice costs no copy.
        if chosen == list(range(chosen[0], chosen[0] + len(chosen))):
            some: slice | list[int] = slice(chosen[0], chosen[0] + len(chosen))
        else:
            some = chosen
        part = weight[some]
        out = F.linear(normed, part.flatten(0, 1), None if bias is None else bias[some].flatten())
        return out.view(*normed.shape[:2], *part.shape[:2])


def _with_stream(call: BlockCall, stream: Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A block's call with another stream in the place of its own, the first tensor that it is handed."""
    args, kwargs = call
    for place, value in enumerate(args):
        if isinstance(value, Tensor):
            return (*args[:place], stream, *args[place + 1 :]), dict(kwargs)
    name = next(name for name, value in kwargs.items() if isinstance(value, Tensor))
    return args, {**kwargs, name: stream}


def mlp_input(model: Model, layer: int) -> tuple[Point, bool]:
    """Where a layer's MLP reads: the point, and whether what it is handed has been through the layer's norm.

    Raises:
        CircuitError: it cannot be told.
    """
    block = model.anatomy.blocks[layer]
    if "resid_mid" in model.layers[layer].points:
        return model.point(Site("resid_mid", layer=layer)), False
    if block.ln2 is not None:
        return Point(block.ln2, "input"), False
    if block.mlp is None:
        raise CircuitError(f"layer {layer} of {model.name} has no module that is handed what its MLP reads")
    return Point(block.mlp, "input"), True
