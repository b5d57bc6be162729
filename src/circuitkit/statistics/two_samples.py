"""Whether two groups of examples differ, over many cells at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from circuitkit.statistics.cells import BLOCK, Array, Floats, checked_level, fill, real_cells


class GroupDifference(NamedTuple):
    """Each cell's difference of means, its interval, and p alone and corrected over all cells."""

    difference: Floats
    low: Floats
    high: Floats
    p: Floats
    p_corrected: Floats


def difference_of_groups(
    per_example: Float[Array, "*cells example"],
    in_first: Bool[Array, " example"],
    *,
    seed: int,
    draws: int = 10_000,
    level: float = 0.95,
) -> GroupDifference:
    """Test whether each cell's mean differs between two groups of examples, corrected by step-down max-T.

    Gives the first group's mean less the second's, a percentile bootstrap interval (each group drawn by itself), and
    two-sided p-values of a permutation test, `[*cells]` each. The labels of whole examples are permuted, the same in
    every cell, which keeps the cells' dependence; the statistic is Welch's |t|.

    Raises ValueError where a group has fewer than two examples. Source: Westfall & Young 1993, algorithm 4.1; Chung &
    Romano 2013, arXiv 1304.5939, on Welch's statistic under permutation.

    >>> values = np.array([[5.0, 6.0, 5.5, 6.5, 1.0, 2.0, 1.5, 0.5]])
    >>> found = difference_of_groups(values, np.arange(8) < 4, seed=0)
    >>> found.difference.tolist(), bool(found.p[0] < 0.05)
    ([4.5], True)
    """
    cells, shape, real = real_cells(per_example)
    first = np.asarray(in_first, dtype=bool)
    if first.shape != (cells.shape[1],):
        raise ValueError(f"{first.size} labels for {cells.shape[1]} examples; give one each")
    sizes = np.array([first.sum(), (~first).sum()])
    if sizes.min() < 2:
        raise ValueError(f"a difference needs two examples at least in each group; got {sizes[0]} and {sizes[1]}")
    difference = cells[:, first].mean(1) - cells[:, ~first].mean(1)
    rng = np.random.default_rng(seed)
    p, p_corrected = _permuted(cells, first, draws, rng)
    low, high = _interval(cells, first, draws, level, rng)
    return GroupDifference(*(fill(each, shape, real) for each in (difference, low, high, p, p_corrected)))


def _welch(cells: Floats, labels: Floats) -> Floats:
    """|t| of each labelling (rows) and cell, 0 where nothing varies and nothing differs."""
    n_first = labels.sum(1)[:, None]
    n_second = labels.shape[1] - n_first
    sums, squares = labels @ cells.T, labels @ (cells**2).T
    mean_first, mean_second = sums / n_first, (cells.sum(1) - sums) / n_second
    var_first = (squares / n_first - mean_first**2) / (n_first - 1)
    var_second = (((cells**2).sum(1) - squares) / n_second - mean_second**2) / (n_second - 1)
    gap = np.abs(mean_first - mean_second)
    noise = np.sqrt((var_first + var_second).clip(min=0.0))
    # Rounding alone is no difference, and no spread.
    floor = 1e-9 * np.abs(cells).max(axis=1).clip(min=1e-300)
    return np.asarray(np.where(gap <= floor, 0.0, gap / np.maximum(noise, floor)))


def _permuted(cells: Floats, first: NDArray[np.bool_], draws: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    # Centred, so that a large mean costs no precision in the squares.
    cells = cells - cells.mean(1, keepdims=True)
    observed = _welch(cells, first[None].astype(np.float64))[0]
    order = np.argsort(-observed, kind="stable")
    reached = observed * (1 - 1e-9)
    alone, corrected = np.zeros(len(cells)), np.zeros(len(cells))
    block = max(1, BLOCK // max(1, *cells.shape))
    for start in range(0, draws, block):
        labels = rng.permuted(np.tile(first, (min(block, draws - start), 1)), axis=1).astype(np.float64)
        statistic = _welch(cells, labels)
        alone += (statistic >= reached).sum(0)
        # Step-down: a cell competes only with the cells that did no better than it.
        largest = np.maximum.accumulate(statistic[:, order[::-1]], axis=1)[:, ::-1]
        corrected += (largest >= reached[order]).sum(0)
    p_corrected = np.empty(len(cells))
    p_corrected[order] = np.maximum.accumulate((corrected + 1) / (draws + 1))
    return (alone + 1) / (draws + 1), p_corrected


def _interval(
    cells: Floats, first: NDArray[np.bool_], draws: int, level: float, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    tails = [(1 - checked_level(level)) / 2, (1 + level) / 2]
    means = []
    for group in (cells[:, first], cells[:, ~first]):
        n = group.shape[1]
        means.append(rng.multinomial(n, np.full(n, 1 / n), size=min(draws, 2000)) @ group.T / n)
    low, high = np.quantile(means[0] - means[1], tails, axis=0)
    return low, high
