"""What takes a destroyed weight's place: zeros, random numbers, its own entries shuffled, noise of its own size.

A filling is told of a place (which part of which parameter) and gives its rows, any of them at a time: the numbers do
not depend on how a checkpoint is cut into blocks or shards, so that a model in memory and a written folder agree bit
for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Shaped
from numpy.typing import NDArray
from torch import Tensor

from circuitkit.sfn.destructions.draws import CHUNK, Draws
from circuitkit.sfn.destructions.initialisation import Law
from circuitkit.sfn.errors import SfnError


class FillingError(SfnError):
    """A way to destroy weights that does not exist, or that cannot be had of these."""


@dataclass(frozen=True)
class Place:
    """A part of a parameter whose weights are replaced.

    Attributes:
        parameter: the parameter, by the name that the causal LM gives it.
        share: what tells this part from others of the parameter: its roles, an expert's number, a head's.
        shape: of the part as it is stored, `[row, column]`, or `[element]` for a bias or a norm.
        dtype: of what is stored.
        out_axis: the axis of outputs: 0, or 1 where weights are stored `[in, out]`, as GPT-2 does.
    """

    parameter: str
    share: tuple[Hashable, ...]
    shape: tuple[int, ...]
    dtype: torch.dtype
    out_axis: int = 0

    def __post_init__(self) -> None:
        if not self.dtype.is_floating_point or self.dtype.itemsize < 2:
            raise FillingError(
                f"{self.parameter} is stored as {str(self.dtype).removeprefix('torch.')}, which has scales beside it: "
                "destroy an unquantised checkpoint (float32, float16 or bfloat16)"
            )

    def __str__(self) -> str:
        return self.parameter

    @property
    def columns(self) -> int:
        """Elements of one row."""
        return math.prod(self.shape[1:])

    def draws(self, seed: int) -> Draws:
        """The random numbers that belong here."""
        return Draws(seed, (self.parameter, *self.share))


Blocks = Callable[[], Iterable[tuple[slice, Tensor]]]
"""Goes through a place as it is, some rows at a time, `[row, column]` or `[element]`; all of them, once or in order."""
Rows = Callable[[slice, Tensor], Tensor]
"""From which rows, and these as they are, makes them as they will be: a new tensor of the same shape and dtype."""


class Filling(Protocol):
    """What takes the place of weights."""

    def begin(self, place: Place, blocks: Blocks) -> Rows:
        """Look at a place, and give what makes its rows, in whatever order and number they are asked for.

        Args:
            place: the part that is replaced.
            blocks: what it holds, for ways that have to have seen all of it before the first row is made.

        Raises:
            FillingError: this place cannot be filled so.
        """


@dataclass(frozen=True)
class Zero:
    """Zeros.

    >>> make = Zero().begin(Place("a.weight", (), (4, 3), torch.float16), list)
    >>> make(slice(0, 2), torch.ones(2, 3, dtype=torch.float16)).tolist()
    [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """

    def begin(self, place: Place, blocks: Blocks) -> Rows:
        """Zeros everywhere."""

        def rows(at: slice, old: Tensor) -> Tensor:
            return torch.zeros_like(old, memory_format=torch.contiguous_format)

        return rows


@dataclass(frozen=True)
class Reinitialised:
    """N(0, sigma), each number drawn as float32 and rounded once to the weight's dtype.

    Attributes:
        sigma: standard deviation, in the weight's own units.
        seed: of the draws.

    Raises:
        FillingError: sigma is not above 0, or the seed is below 0.
    """

    sigma: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        if not (isinstance(self.sigma, Real) and math.isfinite(self.sigma) and self.sigma > 0):
            raise FillingError(
                f"sigma is a standard deviation above 0, not {self.sigma!r}; how='zero' puts zeros there"
            )
        _check_seed(self.seed)

    def begin(self, place: Place, blocks: Blocks) -> Rows:
        """Numbers drawn for this place."""
        draws, sigma = place.draws(self.seed), np.float32(self.sigma)

        def rows(at: slice, old: Tensor) -> Tensor:
            return _rounded(place, sigma * draws.normal(at.start * place.columns, at.stop * place.columns))

        return rows


@dataclass(frozen=True)
class AsBuilt:
    """What the architecture's own code fills a parameter with before training: see `initialisation.laws`.

    Attributes:
        laws: by parameter, how its code initialises it.
        seed: of the draws.
    """

    laws: Mapping[str, Law]
    seed: int = 0

    def __post_init__(self) -> None:
        _check_seed(self.seed)

    def begin(self, place: Place, blocks: Blocks) -> Rows:
        """Numbers by the parameter's law."""
        if place.parameter not in self.laws:
            raise FillingError(f"the architecture has no parameter {place.parameter}, so that it says nothing of it")
        law, draws = self.laws[place.parameter], place.draws(self.seed)
        law.check(place.parameter, place.shape)

        def rows(at: slice, old: Tensor) -> Tensor:
            return _rounded(place, law.rows(draws, at, place.columns))

        return rows


@dataclass(frozen=True)
class Permuted:
    """The entries that feed each output, in a random order of its own.

    An output's incoming weights are shuffled among themselves: each output keeps its norm, mean and histogram, and so
    does the whole; which input feeds it through which weight is lost. Of a head of `o_proj` the entries that come from
    this head are shuffled. A bias or a norm, which has one entry an output, is shuffled as a whole. Where weights lie
    `[in, out]` (GPT-2, the experts of GPT-OSS) the part is read whole before the first row is made.

    Attributes:
        seed: of the orders.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        _check_seed(self.seed)

    def begin(self, place: Place, blocks: Blocks) -> Rows:
        """The orders of this place's outputs."""
        draws = place.draws(self.seed)
        if len(place.shape) == 1 or place.out_axis == 1:
            whole = torch.cat([block.cpu() for _, block in blocks()])
            shuffled = _shuffled(draws, whole.reshape(place.shape[0], -1).T, 0).T.reshape(place.shape)
            return lambda at, old: shuffled[at]

        def rows(at: slice, old: Tensor) -> Tensor:
            return _shuffled(draws, old.reshape(len(old), -1), at.start).reshape(old.shape)

        return rows


@dataclass(frozen=True)
class Noise:
    """Gaussian noise of exactly the norm that the weights had.

    The numbers are scaled so that the part's Frobenius norm is the one before, to rounding; where heads are named, each
    head is a part of its own and keeps its own.

    Attributes:
        seed: of the draws.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        _check_seed(self.seed)

    def begin(self, place: Place, blocks: Blocks) -> Rows:
        """Noise of this place's norm."""
        draws = place.draws(self.seed)
        # Sums that are rounded once at the end do not depend on the blocks that they were taken over.
        squares = math.fsum(square for _, block in blocks() for square in _squares(block))
        drawn = math.fsum(
            float(np.square(chunk, dtype=np.float64).sum()) for chunk in draws.chunks(place.shape[0] * place.columns)
        )
        factor = np.float32(math.sqrt(squares / drawn) if drawn else 0.0)

        def rows(at: slice, old: Tensor) -> Tensor:
            return _rounded(place, factor * draws.normal(at.start * place.columns, at.stop * place.columns))

        return rows


def _check_seed(seed: int) -> None:
    if isinstance(seed, bool) or not isinstance(seed, Integral) or seed < 0:
        raise FillingError(f"a seed is a whole number, 0 or more, not {seed!r}")


def _rounded(place: Place, numbers: NDArray[np.float32]) -> Tensor:
    """Numbers in a place's dtype and in the shape of its rows."""
    new = torch.from_numpy(numbers).to(place.dtype).reshape(-1, *place.shape[1:])
    if not bool(torch.isfinite(new).all()):
        raise FillingError(
            f"the numbers for {place} go beyond what {str(place.dtype).removeprefix('torch.')} holds "
            f"({torch.finfo(place.dtype).max:g}): take a smaller sigma"
        )
    return new


def _squares(block: Tensor) -> list[float]:
    """The sum of squares of each row."""
    found: list[float] = []
    # A few rows at a time stay in a core's cache.
    for rows in torch.split(block.detach().reshape(len(block), -1), max(1, CHUNK // math.prod(block.shape[1:]))):
        exact = rows.cpu().double().numpy()
        found += np.einsum("rc,rc->r", exact, exact).tolist()
    return found


def _shuffled(draws: Draws, block: Shaped[Tensor, "row column"], first: int) -> Shaped[Tensor, "row column"]:
    """Each row in the order of its number, counted from `first`."""
    # Numbers of the same width stand for the weights, since numpy has no bfloat16; they are only moved.
    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[block.dtype.itemsize]
    held = block.detach().cpu().contiguous().view(bits).numpy()
    return torch.from_numpy(draws.shuffled(held, first)).view(block.dtype)
