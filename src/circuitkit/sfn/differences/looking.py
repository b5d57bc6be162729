"""What is looked for in one part of a weight while its pieces go by, and what has been found so far."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from circuitkit.sfn.differences.relative_change import BINS, Formula, counted
from circuitkit.sfn.differences.sums import Heads, Sums, summed
from circuitkit.sfn.differences.widening import widened
from circuitkit.sfn.streams.parts import Part

SAMPLE = 8192
"""So many entries of a part are kept for what needs them one by one."""


@dataclass(frozen=True, eq=False)
class Look:
    """What is looked for in a part.

    Attributes:
        rows, columns: of the part as a matrix; of a vector, its elements are rows of one column.
        heads: how its heads lie in it, where each is looked at apart.
        formula: of the histogram, where one is made.
        positions: of the sampled entries, row after row, in order.
    """

    rows: int
    columns: int
    heads: Heads | None = None
    formula: Formula | None = None
    positions: Int[np.ndarray, " sampled"] = field(default_factory=lambda: np.empty(0, np.int64))


@dataclass(eq=False)
class Seen:
    """What has been found in some pieces of a part, in order.

    Attributes:
        sums: squares and products.
        unchanged: how many entries have one value in A and B.
        places: the histogram's (`relative_change.counted`); None where none is made.
        a, change: the sampled entries.
    """

    sums: Sums
    unchanged: int
    places: Int[np.ndarray, " place"] | None
    a: list[Float[np.ndarray, " sampled"]]
    change: list[Float[np.ndarray, " sampled"]]

    def add(self, more: Seen) -> None:
        """Take in what was found in the next piece."""
        self.sums = self.sums + more.sums
        self.unchanged += more.unchanged
        if self.places is not None and more.places is not None:
            self.places = self.places + more.places
        self.a += more.a
        self.change += more.change


def nothing(look: Look) -> Seen:
    """What has been found before the first piece."""
    places = None if look.formula is None else np.zeros(BINS + 2, dtype=np.int64)
    return Seen(np.zeros((4, look.heads.count if look.heads else 1)), 0, places, [], [])


def looked_at(look: Look, a: Tensor, b: Tensor, first: int) -> Seen:
    """Look at some rows of a part, or elements of a vector, from the `first` on."""
    seen = nothing(look)
    # The elements of a vector are rows of one, and are widened as a single row to be fast.
    vector = look.columns == 1 and look.heads is None
    one, other = (each.reshape(1, -1) if vector else each for each in (a, b))
    for wide in widened(one, other, first):
        seen.sums += summed(wide, look.rows, look.heads)
        weights, changes = wide.a.reshape(-1), wide.change.reshape(-1)
        # Twice as fast as to count what is not zero among the numbers.
        seen.unchanged += int(np.count_nonzero(changes == 0))
        if len(look.positions):
            start = wide.first * look.columns
            within = slice(*np.searchsorted(look.positions, (start, start + changes.size)))
            at = look.positions[within] - start
            seen.a.append(weights[at])
            seen.change.append(changes[at])
        if look.formula is not None and seen.places is not None:
            seen.places += counted(weights, changes, look.formula)
    return seen


def heads_of(part: Part) -> Heads | None:
    """How the heads of a part lie in its share: along its outputs, of o_proj along its inputs."""
    if part.heads is None or part.bias or part.vector or len(part.of) <= 1:
        return None
    return Heads(part.heads, 1 - part.out_axis if "o_proj" in part.roles else part.out_axis)


def sampled(part: Part, seed: int) -> Int[np.ndarray, " sampled"]:
    """Which entries of a part are kept: the same for all checkpoints, all dtypes and all ways to cut a file."""
    if part.numel <= SAMPLE:
        return np.arange(part.numel)
    said = repr((seed, *part.key)).encode()
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(said).digest()[:16], "little"))
    return np.sort(rng.choice(part.numel, SAMPLE, replace=False, shuffle=False))
