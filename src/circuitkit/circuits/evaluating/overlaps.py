"""How much circuits have in common: Jaccard of every two of them, and what chance alone gives."""

from __future__ import annotations

import numpy as np
import scipy
from jaxtyping import Bool, Float
from numpy.typing import NDArray

_COLUMNS = 1_000_000


def pairwise_jaccard(rows: Bool[np.ndarray, "circuit edge"]) -> Float[np.ndarray, "circuit circuit"]:
    """The Jaccard index of every two circuits: edges in both, beside edges in either. Two empty ones give NaN.

    >>> pairwise_jaccard(np.array([[True, True, False], [False, True, True]])).round(3).tolist()
    [[1.0, 0.333], [0.333, 1.0]]
    """
    return jaccard_between(rows, rows)


def jaccard_between(
    rows: Bool[np.ndarray, "circuit edge"], others: Bool[np.ndarray, "other edge"]
) -> Float[np.ndarray, "circuit other"]:
    """The Jaccard index of each circuit and each other; NaN where both are empty.

    >>> jaccard_between(np.array([[True, True]]), np.array([[True, False], [False, False]])).tolist()
    [[0.5, 0.0]]
    """
    both = np.zeros((len(rows), len(others)))
    # Edges that no circuit has say nothing; what is left is multiplied a part at a time.
    there = np.flatnonzero(rows.any(0) & others.any(0))
    for start in range(0, len(there), _COLUMNS):
        part = there[start : start + _COLUMNS]
        # Sums of ones are exact in single precision up to 16 million.
        both += rows[:, part].astype(np.float32) @ others[:, part].astype(np.float32).T
    either = rows.sum(1)[:, None] + others.sum(1)[None, :] - both
    return np.asarray(np.divide(both, either, out=np.full_like(both, np.nan), where=either > 0))


def upper(square: Float[np.ndarray, "circuit circuit"]) -> Float[np.ndarray, " pair"]:
    """Each two circuits' entry once, without a circuit's with itself."""
    return np.asarray(square[np.triu_indices(len(square), 1)])


def chance_jaccard(size: int, n_edges: int) -> float:
    """The expected Jaccard index of two random circuits of `size` of `n_edges` edges (NaN where they are empty).

    What they share is hypergeometric, so it is exact.

    >>> chance_jaccard(1, 4), chance_jaccard(4, 4)
    (0.25, 1.0)
    """
    if not 0 < size <= n_edges:
        return float("nan")
    shared = np.arange(max(0, 2 * size - n_edges), size + 1)
    if len(shared) > 200_000:
        # So many are shared that their spread does not matter: the mean stands for all.
        mean = size * size / n_edges
        return float(mean / (2 * size - mean))
    weights = scipy.stats.hypergeom.pmf(shared, n_edges, size, size)
    return float((weights * shared / (2 * size - shared)).sum())


def mean_of_pairs(square: Float[np.ndarray, "circuit circuit"]) -> tuple[float, float]:
    """The mean over every two circuits, and its jackknife standard error over circuits.

    >>> mean_of_pairs(np.ones((3, 3)))
    (1.0, 0.0)
    """
    n = len(square)
    if n < 2:
        return float("nan"), float("nan")
    sums = square.sum(1) - square.diagonal()
    total = sums.sum()
    mean = total / (n * (n - 1))
    if n < 3:
        return float(mean), float("nan")
    left_out: NDArray[np.float64] = (total - 2 * sums) / ((n - 1) * (n - 2))
    return float(mean), float(np.sqrt((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum()))
