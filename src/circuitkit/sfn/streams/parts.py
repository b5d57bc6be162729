"""A role's share of a stored tensor: all of it, or some rows or columns of a fused one, an expert's, a head's.

Tensors are taken as matrices, whose rows are all axes but the last. So one description serves files that are read in
blocks of rows, whole tensors, and the parameters of a model in memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from circuitkit.sfn.errors import SelectionError
from circuitkit.sfn.streams.runs import Runs, between, count, cut, length, share

if TYPE_CHECKING:
    from circuitkit.model import Model

__all__ = ["Part", "between", "live_parts", "whole_part"]


@dataclass(frozen=True)
class Part:
    """A role's share of one tensor.

    Attributes:
        tensor: the name under which it is stored; of a model in memory, the parameter's.
        parameter: the name that the causal LM gives the parameter that it becomes; with `roles`, `expert` and `which`
            it is what parts of two checkpoints are paired by (`key`).
        roles: usually one; `("embed", "lm_head")` where they are tied; none for a router, an attention sink, or a
            buffer; several where a fused tensor's layout is not known, and they are to be had together only.
        layer: None outside of layers.
        bias: whether it is a bias.
        expert: its number, of a mixture of experts.
        of: shape of the whole tensor.
        rows: stretches of the tensor's rows, all axes but the last taken as one; of a vector, of its elements.
        columns: stretches of its last axis; all of them, if None.
        vector: whether the share is a vector; its rows and columns then are one behind the other.
        out_axis: the axis of the share that the projection's outputs lie along: 0, or 1 where weights are stored
            `[in, out]` (GPT-2's Conv1D). Embedding and unembedding, `[vocabulary, d_model]`: 0.
        heads: of this projection (query heads for q and o, key/value heads for k and v); None for anything else.
        which: the head, where the part is one head's.
        copies: other stored tensors that hold the same numbers (a tied unembedding that is stored all the same): what
            is written here has to be written there.
    """

    tensor: str
    parameter: str
    roles: tuple[str, ...]
    layer: int | None
    bias: bool
    expert: int | None
    of: tuple[int, ...]
    rows: Runs
    columns: Runs | None = None
    vector: bool = False
    out_axis: int = 0
    heads: int | None = None
    which: int | None = None
    copies: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, tuple[str, ...], int | None, int | None]:
        """What tells it from the other parts of a checkpoint, and pairs it with another's."""
        return self.parameter, self.roles, self.expert, self.which

    @property
    def shape(self) -> tuple[int, ...]:
        """`[row, column]`, or `[element]` of a vector."""
        rows = count(self.rows)
        if len(self.of) <= 1:
            return (rows,)
        columns = self.of[-1] if self.columns is None else count(self.columns)
        return (rows * columns,) if self.vector else (rows, columns)

    @property
    def numel(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    @property
    def whole(self) -> bool:
        """Whether it is all of the tensor."""
        return self.numel == math.prod(self.of)

    def take(self, whole: Tensor) -> Tensor:
        """The share, out of the whole tensor: `[row, column]`, or `[element]`; a view where it lies in one stretch.

        >>> part = Part("w", "w", ("k_proj",), 0, False, None, of=(4, 2), rows=(slice(2, 4),))
        >>> part.take(torch.arange(8).view(4, 2)).tolist()
        [[4, 5], [6, 7]]
        """
        pieces = [piece for _, _, piece in self._pieces(whole)]
        if len(pieces) == 1:
            return pieces[0].reshape(self.shape)
        across = len(self.columns or (None,))
        joined = [
            torch.cat(pieces[at : at + across], dim=-1) if across > 1 else pieces[at]
            for at in range(0, len(pieces), across)
        ]
        return torch.cat(joined).reshape(self.shape)

    def put(self, whole: Tensor, new: Tensor) -> None:
        """Write the share into the whole tensor, in place.

        Args:
            whole: the tensor, or a parameter's data.
            new: of the share's shape.
        """
        if tuple(new.shape) != self.shape:
            raise ValueError(f"{self.tensor}: its {self.label} has the shape {list(self.shape)}, not {list(new.shape)}")
        table = new.reshape(count(self.rows), -1) if len(self.of) > 1 else new
        for row, column, piece in self._pieces(whole):
            rows_of = table[row : row + piece.shape[0]]
            piece.copy_(rows_of if len(self.of) <= 1 else rows_of[:, column : column + piece.shape[1]])

    def within(self, at: slice) -> tuple[Part, slice] | None:
        """What of the part lies in a block of the tensor's rows.

        Args:
            at: the block's rows.

        Returns:
            A part of the block alone, whose `take` and `put` are given the block, and the rows of this part (of a
            vector: its elements) that it is; None where there is nothing of the part in the block.

        >>> part = Part("w", "w", ("k_proj",), 0, False, None, of=(4, 2), rows=(slice(2, 4),))
        >>> inside, own = part.within(slice(3, 4))
        >>> inside.rows, own
        ((slice(0, 1, 1),), slice(1, 2, None))
        """
        found: list[slice] = []
        before = first = 0
        for run in self.rows:
            inside = cut(run, at)
            if inside is not None:
                skipped, kept = inside
                if not found:
                    first = before + skipped
                found.append(slice(kept.start - at.start, kept.stop - at.start, kept.step))
            before += length(run)
        if not found:
            return None
        inside_rows = count(tuple(found))
        block = (at.stop - at.start, *self.of[-1:]) if len(self.of) > 1 else (at.stop - at.start,)
        width = self.numel // max(count(self.rows), 1) if self.vector and len(self.of) > 1 else 1
        own = slice(first * width, (first + inside_rows) * width)
        return replace(self, of=block, rows=tuple(found)), own

    def head(self, head: int) -> Part:
        """One head's share: outputs of q, k and v, inputs of o.

        Raises:
            SelectionError: it is no attention projection's, there is no such head, or it is the bias of o, which
                belongs to no head.
        """
        if self.heads is None:
            raise SelectionError(f"{self.tensor} has no heads: {self.label} is no projection of heads")
        if not -self.heads <= head < self.heads:
            raise SelectionError(
                f"head {head} does not exist: {self.label} of layer {self.layer} has heads 0 to {self.heads - 1}"
            )
        head %= self.heads
        inputs = "o_proj" in self.roles
        if inputs and self.bias:
            raise SelectionError(
                f"{self.tensor} is the bias of o_proj, which is added behind all heads: no head has one"
            )
        axis = 1 - self.out_axis if inputs else self.out_axis
        if axis == 0 or len(self.of) <= 1:
            return replace(self, rows=share(self.rows, head, self.heads), which=head)
        columns = self.columns if self.columns is not None else (slice(0, self.of[-1]),)
        return replace(self, columns=share(columns, head, self.heads), which=head)

    @property
    def label(self) -> str:
        """Its roles, or its name where it has none."""
        return "+".join(self.roles) or self.tensor

    def _pieces(self, whole: Tensor) -> Iterator[tuple[int, int, Tensor]]:
        """Its stretches in the tensor, as views, each with where it begins in the share."""
        if tuple(whole.shape) != self.of and not (not self.of and whole.numel() == 1):
            raise ValueError(f"{self.tensor} has the shape {list(self.of)}, and {list(whole.shape)} was given")
        flat = whole if whole.ndim == len(self.of) <= 1 else whole.view(-1, *whole.shape[-1:])
        if not self.of:
            flat = whole.view(1)
        row = 0
        for run in self.rows:
            piece = flat[run]
            if len(self.of) <= 1 or self.columns is None:
                yield row, 0, piece
            else:
                column = 0
                for across in self.columns:
                    yield row, column, piece[:, across]
                    column += length(across)
            row += length(run)


def whole_part(tensor: str, parameter: str, shape: tuple[int, ...], layer: int | None) -> Part:
    """A tensor as a part without a role."""
    rows = math.prod(shape[:-1]) if len(shape) > 1 else math.prod(shape)
    bias = parameter.rpartition(".")[2] == "bias"
    return Part(tensor, parameter, (), layer, bias, None, shape, (slice(0, rows),))


def live_parts(model: Model) -> tuple[Part, ...]:
    """Every part of a model's own parameters, and of the buffers that are saved with them; `tensor` is their name.

    Raises:
        CheckpointError: the model has a PEFT adapter.

    >>> [part.tensor for part in live_parts(ck.load("deductor-130k")) if "o_proj" in part.roles][0]
    'model.layers.0.self_attn.o_proj.weight'
    """
    from circuitkit.sfn.streams.model_parts import parts_of

    return parts_of(model)
