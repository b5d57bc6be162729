"""A tool's time for a whole sweep, from a stratified sample of its cells, in batches of the size that suits it best."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from yardstick.clock import Clock

Cells = Callable[[int, list[int]], Tensor]


@dataclass(frozen=True)
class Sampled:
    """A tool's cells, timed a batch at a time.

    Attributes:
        cells: runs a layer's cells in one forward.
        layers: the strata: each timing takes the next.
        ats: the heads or positions of a layer.
        size: cells a batch.
    """

    cells: Cells
    layers: tuple[int, ...]
    ats: tuple[int, ...]
    size: int

    @classmethod
    def of(cls, cells: Cells, n_layers: int, ats: Sequence[int], clock: Clock, sizes: Sequence[int]) -> "Sampled":
        """Choose the size, of those that memory holds, at which a cell takes least."""
        strata = tuple(dict.fromkeys((n_layers // 2, 0, n_layers - 1)))
        tried: dict[int, float] = {}
        cells(strata[0], [ats[-1]])
        for size in sorted({min(size, len(ats)) for size in sizes}):
            sampled = cls(cells, strata, tuple(ats), size)
            try:
                tried[size] = sampled.seconds_a_cell(clock, 0) if len(set(sizes)) > 1 else 0.0
            except (torch.OutOfMemoryError, MemoryError):
                if not tried:
                    raise
                break
        return cls(cells, strata, tuple(ats), min(tried, key=lambda size: tried[size]))

    def batch(self, turn: int) -> Tensor:
        """One batch of a turn's layer, its heads or positions spread over all."""
        return self.cells(*self.chosen(turn))

    def chosen(self, turn: int) -> tuple[int, list[int]]:
        """The layer of a turn, and its heads or positions."""
        step = len(self.ats) / self.size
        return self.layers[turn % len(self.layers)], [self.ats[-1 - int(step * n)] for n in range(self.size)]

    def seconds_a_cell(self, clock: Clock, turn: int) -> float:
        """Seconds of one batch, by cell."""
        return clock.seconds(lambda: self.batch(turn)) / self.size
