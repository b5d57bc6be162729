"""Random numbers that belong to a place in a weight: the same whichever piece of it is asked for, and how."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Shaped
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

    def shuffled(self, rows: Shaped[np.ndarray, "row column"], first: int) -> Shaped[np.ndarray, "row column"]:
        """Rows, each in a random order of its own, which hangs on the row's number and on how many columns there are.

        Args:
            rows: some rows of a weight.
            first: the number of the first of them.
        """
        together = max(1, CHUNK // max(1, rows.shape[1]))
        moved = np.empty_like(rows)
        for chunk, low, high in _stretches(first, first + len(rows), together):
            # Rows before these draw their orders too: from one generator, later ones hang on earlier ones.
            held = np.zeros((high, rows.shape[1]), dtype=rows.dtype)
            at = slice(chunk * together + low - first, chunk * together + high - first)
            held[low:] = rows[at]
            moved[at] = self._generator(chunk).permuted(held, axis=1)[low:]
        return moved

    def _along(
        self, start: int, stop: int, draw: Callable[[np.random.Generator], NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        found = np.empty(stop - start, dtype=np.float32)
        for chunk, low, high in _stretches(start, stop, CHUNK):
            first = chunk * CHUNK - start
            found[first + low : first + high] = draw(self._generator(chunk))[low:high]
        return found

    def _generator(self, number: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self._entropy, spawn_key=(number,)))

    @property
    def _entropy(self) -> Any:
        said = "\0".join([str(self.seed), *map(repr, self.key)]).encode()
        return int.from_bytes(hashlib.sha256(said).digest()[:16], "little")


def _stretches(start: int, stop: int, length: int) -> Iterator[tuple[int, int, int]]:
    """The chunks of a length that a stretch lies in: the number of each, and where in it the stretch begins and ends.

    >>> list(_stretches(3, 9, 4))
    [(0, 3, 4), (1, 0, 4), (2, 0, 1)]
    """
    for chunk in range(start // length, -(-stop // length)):
        first = chunk * length
        yield chunk, max(start, first) - first, min(stop, first + length) - first
