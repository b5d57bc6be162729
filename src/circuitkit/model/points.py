"""Where a site's tensor is in a running model, and how it is read from there and written back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from einops import rearrange
from jaxtyping import Int
from torch import Tensor, nn

from circuitkit.model.sharding import Shard


class View(Protocol):
    """A site's tensor within a module's input or output: read, and written back."""

    def read(self, whole: Tensor) -> Tensor:
        """The site's tensor, in the site's own shape."""

    def write(self, whole: Tensor, part: Tensor) -> Tensor:
        """The module's tensor with the site's replaced."""


@dataclass(frozen=True)
class Whole:
    """The tensor itself, times the multiplier with which it is added to the stream."""

    multiplier: float = 1.0

    def read(self, whole: Tensor) -> Tensor:
        """The tensor as it is added to the stream."""
        return whole if self.multiplier == 1.0 else whole * self.multiplier

    def write(self, whole: Tensor, part: Tensor) -> Tensor:
        """The tensor before its multiplier."""
        return part if self.multiplier == 1.0 else part / self.multiplier


@dataclass(frozen=True)
class Heads:
    """Heads side by side in the last axis."""

    n_heads: int

    def read(self, whole: Tensor) -> Tensor:
        """`[batch, position, head, d_head]`."""
        return rearrange(whole, "... (head d_head) -> ... head d_head", head=self.n_heads)

    def write(self, whole: Tensor, part: Tensor) -> Tensor:
        """Heads joined again."""
        return part.flatten(-2)


@dataclass(frozen=True, eq=False)
class Columns:
    """Heads at some columns of a fused projection's output."""

    index: Int[Tensor, " column"]
    n_heads: int

    def read(self, whole: Tensor) -> Tensor:
        """`[batch, position, head, d_head]`."""
        part = whole.index_select(-1, self.index.to(whole.device))
        return rearrange(part, "... (head d_head) -> ... head d_head", head=self.n_heads)

    def write(self, whole: Tensor, part: Tensor) -> Tensor:
        """The fused output with these columns replaced."""
        return whole.index_copy(-1, self.index.to(whole.device), part.flatten(-2))


@dataclass(frozen=True)
class Point:
    """One end of a module, and the view of a site's tensor there.

    Attributes:
        shard: how the module's tensor is divided among processes; None where each has the whole.
    """

    module: nn.Module
    end: Literal["input", "output"]
    view: View = Whole()
    shard: Shard | None = None

    def apply(self, act: Callable[[Tensor], Tensor | None], held: Tensor) -> Tensor | None:
        """What an action on the site's tensor makes of the module's, of which this process holds all or a part."""
        whole = held if self.shard is None else self.shard.gathered(held)
        part = act(self.view.read(whole))
        if part is None:
            return None
        return self.own(self.view.write(whole, part))

    def own(self, whole: Tensor) -> Tensor:
        """What of the module's whole input or output belongs to this process."""
        return whole if self.shard is None else self.shard.own(whole)


def first_tensor(values: Any) -> Tensor:
    """The tensor that a module's input or output carries along the stream: the first of a tuple."""
    if isinstance(values, Tensor):
        return values
    return next(value for value in values if isinstance(value, Tensor))


def with_first_tensor(values: Any, new: Tensor) -> Any:
    """The same structure with the first tensor replaced."""
    if isinstance(values, Tensor):
        return new
    rest = list(values)
    place = next(i for i, value in enumerate(rest) if isinstance(value, Tensor))
    rest[place] = new
    return type(values)(*rest) if hasattr(values, "_fields") else type(values)(rest)
