"""What is left of a tensor of which parts are destroyed: one definition for written checkpoints and live models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from circuitkit.sfn.destructions.fillings import Filling, Place, Rows
from circuitkit.sfn.streams.blocks import check_finite, slices
from circuitkit.sfn.streams.checkpoint import Checkpoint
from circuitkit.sfn.streams.parts import Part

_PIECE = 1 << 22
"""Bytes that are made at a time: draws and sums take several times as many."""


@dataclass
class Ruin:
    """A stored tensor of which some parts are filled anew, and nothing else is touched.

    Attributes:
        checkpoint: whose tensor it is.
        tensor: its stored name.
        parts: of it, none over another.
        filling: what takes their place.
        saying: what the manifest says of it.
    """

    checkpoint: Checkpoint
    tensor: str
    parts: Sequence[Part]
    filling: Filling
    saying: Mapping[str, Any]
    _begun: dict[int, Rows] = field(default_factory=dict, init=False)

    def rows(self, at: slice, old: Tensor) -> Tensor:
        """The tensor's rows as they will be.

        Raises:
            CheckpointError: a weight is NaN or infinite.
            FillingError: the new numbers do not fit the tensor's dtype.
        """
        check_finite(f"{self.tensor} of {self.checkpoint.name}", old, at.start)
        new = old.clone(memory_format=torch.contiguous_format)
        table = new if new.ndim <= 2 else new.view(-1, new.shape[-1])
        for index, part in enumerate(self.parts):
            for piece in self._pieces(at):
                if (found := part.within(piece)) is not None:
                    inside, own = found
                    rows = table[piece.start - at.start : piece.stop - at.start]
                    inside.put(rows, self._rows(index)(own, inside.take(rows)))
                    if own.stop == part.shape[0]:
                        # What a way has to keep of a part (all of it, to shuffle columns) is kept of one at a time.
                        del self._begun[index]
        return new

    def told(self) -> Mapping[str, Any]:
        """How it was destroyed, and which parts of it."""
        shares = [share for part in self.parts if (share := _share(part))]
        return {**self.saying, "parts": shares} if shares else dict(self.saying)

    def _rows(self, index: int) -> Rows:
        if index not in self._begun:
            part = self.parts[index]
            dtype = self.checkpoint.tensors[part.tensor].dtype
            place = Place(part.parameter, part.key[1:], part.shape, dtype, part.out_axis)
            self._begun[index] = self.filling.begin(place, lambda: self._blocks(part))
        return self._begun[index]

    def _pieces(self, at: slice) -> list[slice]:
        """A block's rows, a few at a time."""
        stored = self.checkpoint.tensors[self.tensor]
        cut = slices(at.stop - at.start, stored.row_nbytes, _PIECE)
        return [slice(at.start + each.start, at.start + each.stop) for each in cut]

    def _blocks(self, part: Part) -> Iterator[tuple[slice, Tensor]]:
        """A part as it is, in blocks of rows."""
        whole = self.checkpoint.read(part.tensor)
        table = whole.reshape(-1, whole.shape[-1]) if whole.ndim > 1 else whole.reshape(-1)
        for at in self._pieces(slice(0, len(table))):
            if (found := part.within(at)) is not None:
                inside, own = found
                check_finite(f"{part.tensor} of {self.checkpoint.name}", table[at], at.start)
                yield own, inside.take(table[at])


def _share(part: Part) -> str:
    """Which share of its tensor a part is; nothing where it is all of it."""
    if part.whole:
        return ""
    told = [part.label]
    told += [f"expert {part.expert}"] if part.expert is not None else []
    told += [f"head {part.which}"] if part.which is not None else []
    return " ".join(told)
