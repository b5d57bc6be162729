"""Random numbers that belong to a place in a weight: the same whichever piece of it is asked for, and how."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64
from numpy.typing import NDArray

CHUNK = 1 << 16
"""How many numbers come from one generator: each chunk has its own, so that a piece is drawn without what is before."""


@dataclass(frozen=True)
class Draws:
    """Random numbers along the elements of one weight, in the order in which they are stored.

    Element `i` is the same number whatever else is drawn, so that blocks, shards and dtypes make no difference. The
    numbers are float32; who needs another dtype rounds them once.

    Attributes:
        seed: a whole number, 0 or more.
        key: what the numbers belong to, such as a parameter's name and an expert's number. Another key gives numbers
            that have nothing to do with these.

    >>> draws = Draws(0, ("lm_head.weight",))
    >>> bool((draws.normal(5, 9) == draws.normal(0, 100)[5:9]).all())
    True
    """

    seed: int
    key: tuple[Hashable, ...]

    def normal(self, start: int, stop: int) -> Float32[np.ndarray, " element"]:
        """Standard normal numbers of the elements from `start` up to `stop`."""
        return self._along(start, stop, lambda generator: generator.standard_normal(CHUNK, dtype=np.float32))

    def uniform(self, start: int, stop: int) -> Float32[np.ndarray, " element"]:
        """Numbers even over [0, 1), of the elements from `start` up to `stop`."""
        return self._along(start, stop, lambda generator: generator.random(CHUNK, dtype=np.float32))

    def chunks(self, count: int) -> Iterator[Float32[np.ndarray, " element"]]:
        """The standard normal numbers of the first `count` elements, a chunk at a time."""
        for start in range(0, count, CHUNK):
            yield self.normal(start, min(start + CHUNK, count))

    def order(self, row: int, count: int) -> Int64[np.ndarray, " element"]:
        """A random order of the `count` elements of a row."""
        return self._generator(row).permutation(count)

    def _along(
        self, start: int, stop: int, draw: Callable[[np.random.Generator], NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        found = np.empty(stop - start, dtype=np.float32)
        for chunk in range(start // CHUNK, -(-stop // CHUNK)):
            first = chunk * CHUNK
            low, high = max(start, first), min(stop, first + CHUNK)
            found[low - start : high - start] = draw(self._generator(chunk))[low - first : high - first]
        return found

    def _generator(self, number: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self._entropy, spawn_key=(number,)))

    @property
    def _entropy(self) -> Any:
        said = "\0".join([str(self.seed), *map(repr, self.key)]).encode()
        return int.from_bytes(hashlib.sha256(said).digest()[:16], "little")
