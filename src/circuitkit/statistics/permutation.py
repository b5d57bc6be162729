"""Whether an effect is there at all, over many cells at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from circuitkit.statistics.cells import BLOCK, Array, Floats, Groups, by_group, fill, real_cells


class SignFlipTest(NamedTuple):
    """Each cell's p-value, alone and corrected over all cells, and the smallest that could have come out."""

    p: Floats
    p_corrected: Floats
    smallest: float


def sign_flip_test(
    per_example: Float[Array, "*cells example"],
    *,
    seed: int,
    draws: int = 10_000,
    groups: Groups | None = None,
) -> SignFlipTest:
    """Test whether each cell's mean differs from 0, corrected over all cells by step-down max-T.

    Gives two-sided p-values of shape `[*cells]`. If nothing happens in a cell, its examples are symmetric
    about 0, so the signs of whole examples (or groups) are flipped at random, the same in every cell, which
    keeps the cells' dependence. The statistic is each cell's |t|, so that noisy cells don't drown quiet ones.
    The corrected p bounds the chance of even one false discovery. Where all flips number at most `draws`,
    they are counted in full: with fewer than six examples no cell can reach p < 0.05 (see `smallest`).

    Raises ValueError with fewer than two examples or groups. Source: Westfall & Young 1993, algorithm 4.1.

    >>> effects = np.array([[1.0, 1.1, 0.9, 1.2, 1.0, 0.8], [0.1, -0.1, 0.2, -0.2, 0.1, -0.1]])
    >>> test = sign_flip_test(effects, seed=0)
    >>> test.p.tolist()
    [0.03125, 1.0]
    """
    cells, shape, real = real_cells(per_example)
    sums, sizes = by_group(cells, groups, "a test")
    # Flips leave a cell's sum of squares alone, so |t| and |sum| / sqrt(sum of squares) rise together.
    norm = np.sqrt((sums**2).sum(1))
    scaled = np.divide(sums, norm[:, None], out=np.zeros_like(sums), where=norm[:, None] > 0)
    observed = np.abs(scaled.sum(1))
    order = np.argsort(-observed, kind="stable")
    reached = observed - 1e-9
    alone, corrected, flips = np.zeros(len(cells)), np.zeros(len(cells)), 0
    exhaustive = 2 ** (len(sizes) - 1) <= draws
    for signs in _signs(len(sizes), draws, max(1, BLOCK // max(1, len(cells))), seed):
        statistic = np.abs(signs @ scaled.T)
        alone += (statistic >= reached).sum(0)
        # Step-down: a cell competes only with the cells that did no better than it.
        largest = np.maximum.accumulate(statistic[:, order[::-1]], axis=1)[:, ::-1]
        corrected += (largest >= reached[order]).sum(0)
        flips += len(signs)
    counted = 0 if exhaustive else 1
    p = (alone + counted) / (flips + counted)
    p_corrected = np.empty_like(p)
    p_corrected[order] = np.maximum.accumulate((corrected + counted) / (flips + counted))
    return SignFlipTest(fill(p, shape, real), fill(p_corrected, shape, real), 1 / (flips + counted))


def _signs(n: int, draws: int, block: int, seed: int) -> Iterator[Floats]:
    """Rows of +1 and -1: every row with a leading +1 if those are few (their negatives tell nothing new)."""
    if 2 ** (n - 1) <= draws:
        bits = (np.arange(2 ** (n - 1))[:, None] >> np.arange(n)) & 1
        every = (1 - 2 * bits).astype(np.float64)
        for start in range(0, len(every), block):
            yield every[start : start + block, ::-1]
        return
    rng = np.random.default_rng(seed)
    for start in range(0, draws, block):
        bits = rng.integers(0, 2, size=(min(block, draws - start), n))
        yield (1 - 2 * bits).astype(np.float64)
