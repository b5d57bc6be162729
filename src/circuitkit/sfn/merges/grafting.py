"""Parts of other checkpoints put into a tensor, rows at a time, however each of them is fused and sharded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from circuitkit.sfn.errors import SfnError
from circuitkit.sfn.merges.blending import blend, rounded
from circuitkit.sfn.streams.blocks import check_finite
from circuitkit.sfn.streams.checkpoint import Checkpoint
from circuitkit.sfn.streams.parts import Part
from circuitkit.sfn.streams.runs import between, count


class MergeError(SfnError):
    """Checkpoints that cannot be merged as asked."""


@dataclass(frozen=True)
class Share:
    """A part, with the checkpoint that it lies in."""

    checkpoint: Checkpoint
    part: Part

    def __str__(self) -> str:
        return f"{self.part.tensor} of {self.checkpoint.name}"

    def rows(self, own: slice) -> Tensor:
        """Some of the part's own rows; of a vector, of its elements."""
        # A vector may be cut out of a table, some elements from each of its rows.
        width = self.part.shape[0] // count(self.part.rows) if self.part.vector else 1
        some = replace(self.part, rows=between(self.part.rows, own.start // width, own.stop // width))
        span = slice(some.rows[0].start, some.rows[-1].stop)
        block = self.checkpoint.rows(some.tensor, span)
        check_finite(str(self), block, span.start)
        inside = some.within(span)
        assert inside is not None
        return inside[0].take(block)


@dataclass(frozen=True)
class Donation:
    """A donor's part, with its weight, and what it is compared with where that is not what it is put into."""

    weight: float
    share: Share
    base: Share | None = None

    def rows(self, own: slice) -> tuple[float, Tensor, Tensor | None]:
        """As `circuitkit.sfn.merges.blending` takes it."""
        return self.weight, self.share.rows(own), None if self.base is None else self.base.rows(own)


@dataclass
class Graft:
    """What becomes of a tensor into which parts of others are put.

    Attributes:
        into: whose tensor it is.
        pieces: the parts of it, each with what is given to it.
    """

    into: str
    pieces: Sequence[tuple[Part, Sequence[Donation]]]
    _rounded: int = field(default=0, init=False)

    @property
    def chosen(self) -> int:
        """How many numbers are asked for."""
        return sum(part.numel for part, _ in self.pieces)

    def rows(self, at: slice, old: Tensor) -> Tensor:
        """The tensor's rows with the parts put in."""
        new = old.clone()
        for part, donations in self.pieces:
            if (found := part.within(at)) is None:
                continue
            inside, own = found
            values = blend(inside.take(old), [each.rows(own) for each in donations])
            inside.put(new, self._fitted(values, old.dtype, part, donations))
        return new

    def told(self) -> Mapping[str, Any]:
        """How many numbers were asked for, and how many of those were rounded to fit."""
        heads = sorted({part.which for part, _ in self.pieces if part.which is not None})
        return {"chosen": self.chosen, "rounded": self._rounded} | ({"heads": heads} if heads else {})

    def _fitted(self, values: Tensor, dtype: torch.dtype, part: Part, donations: Sequence[Donation]) -> Tensor:
        if values.dtype == dtype or not values.numel():
            return values
        fitted = rounded(values, dtype)
        if not torch.isfinite(torch.stack(fitted.aminmax())).all():
            givers = " and ".join(str(each.share) for each in donations)
            raise MergeError(
                f"{part.tensor} of {self.into} is {_named(dtype)}, which holds no {values.abs().max():.4g}, as it "
                f"would get from {givers}: save {self.into} in bfloat16 or float32, and merge into that"
            )
        self._rounded += int(torch.count_nonzero(fitted.to(torch.promote_types(values.dtype, dtype)) != values))
        return fitted


def _named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
