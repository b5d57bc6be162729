"""Whether two curves move together, where neighbouring points of a curve are alike anyway."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from circuitkit.statistics.cells import Array, Floats, as_array


class BlockPermutation(NamedTuple):
    """How two curves correlate, and how often they do as much once one of them is cut and put together otherwise.

    Attributes:
        correlation: Pearson's, the mean over runs.
        p: two-sided.
        smallest: the smallest p that could have come out.
        block: the length of a block, in points.
        n_runs: runs in which both curves move.
    """

    correlation: float
    p: float
    smallest: float
    block: int
    n_runs: int


def block_permutation_test(
    first: Sequence[Float[Array, " time"]],
    second: Sequence[Float[Array, " time"]],
    *,
    seed: int,
    block: int | None = None,
    together: bool = True,
    draws: int = 10_000,
) -> BlockPermutation:
    """Test whether two curves of the same runs correlate, by permuting blocks of the second within each run.

    Two curves that both drift correlate by chance, the more the slower they drift, and a test that permutes single
    points finds that significant. Here whole blocks of neighbours change places, from a random cut of the circle that
    each run's curve is bent to, so that a block keeps what neighbours have in common. A trend over the whole run is
    kept by no block: give differences from point to point where curves have one. The statistic is the mean over runs of
    Pearson's correlation; runs in which a curve does not move have none and are left out.

    Runs of one schedule, of the same start or the same order of examples are no independent evidence, so that all are
    permuted alike unless `together` is False.

    Args:
        first, second: a curve a run each, of at least four points.
        block: neighbours that stay together; if None, twice the lag at which the second curve's autocorrelation falls
            below 1/e, up to half of a run.
        together: give all runs the same permutations; those whose curves are not as long need False.
        seed, draws: of the permutations.

    Returns:
        NaN for correlation and p where no run has curves that move.

    Raises:
        ValueError: curves are not as many or not as long, shorter than four points, not finite, or blocks leave nothing
            to permute.

    Source: Künsch 1989, Ann. Stat. 17 (blocks); Politis & Romano 1992 (blocks of a circle).

    >>> found = block_permutation_test([np.arange(8.0)], [np.arange(8.0)], block=1, seed=0)
    >>> round(found.correlation, 6), found.p < 0.01
    (1.0, True)
    """
    curves = _checked(first, second)
    moving = [(one, other) for one, other in curves if np.ptp(one) > 0 and np.ptp(other) > 0]
    length = _block([other for _, other in moving or curves]) if block is None else block
    shortest = min(len(other) for _, other in curves)
    if not 1 <= length <= shortest // 2:
        raise ValueError(
            f"blocks of {length} of runs of {shortest} points leave nothing to permute: give 1 to {shortest // 2}"
        )
    if not moving:
        return BlockPermutation(math.nan, math.nan, math.nan, length, 0)
    ones = [_standard(one) for one, _ in moving]
    others = [_standard(other) for _, other in moving]
    observed = float(np.mean([one @ other for one, other in zip(ones, others, strict=True)]))
    if together and len({len(other) for other in others}) > 1:
        raise ValueError("runs of several lengths cannot be permuted alike: give together=False, or runs as long")
    null = np.zeros(draws)
    for run, (one, other) in enumerate(zip(ones, others, strict=True)):
        rng = np.random.default_rng([seed, 0 if together else run])
        null += other[_orders(len(other), length, draws, rng)] @ one / len(ones)
    as_large = int((np.abs(null) >= abs(observed) - 1e-9).sum())
    apart = others[:1] if together else others
    ways = math.prod(len(other) * math.factorial(-(-len(other) // length) - 1) for other in apart)
    return BlockPermutation(observed, (1 + as_large) / (1 + draws), 1 / (1 + min(draws, ways)), length, len(moving))


def _checked(
    first: Sequence[Float[Array, " time"]], second: Sequence[Float[Array, " time"]]
) -> list[tuple[Floats, Floats]]:
    if len(first) != len(second) or not len(first):
        raise ValueError(f"two curves a run are needed; got {len(first)} and {len(second)}")
    curves = [(as_array(one), as_array(other)) for one, other in zip(first, second, strict=True)]
    for number, (one, other) in enumerate(curves):
        if one.shape != other.shape or one.ndim != 1 or len(one) < 4:
            raise ValueError(
                f"run {number} has curves of {one.shape} and {other.shape}: give as many points, 4 at least"
            )
        if not np.isfinite([one, other]).all():
            raise ValueError(f"run {number} has a point that is not finite: leave such points out of both curves")
    return curves


def _standard(curve: Floats) -> Floats:
    """A curve whose product with another is their correlation."""
    centred = curve - curve.mean()
    return np.asarray(centred / np.linalg.norm(centred))


def _orders(n: int, block: int, draws: int, rng: np.random.Generator) -> Int[np.ndarray, "draw time"]:
    """Places of a circle of `n`, each time cut at random into blocks that then stand in a random order."""
    of_block = np.arange(n) // block
    ranks = rng.random((draws, int(of_block[-1]) + 1))
    order = np.argsort(ranks[:, of_block], axis=1, kind="stable")
    return np.asarray((rng.integers(n, size=(draws, 1)) + order) % n)


def _block(curves: Sequence[Floats]) -> int:
    """Twice the lag at which neighbours have little in common, the longest of all runs."""
    longest = 1
    for curve in curves:
        centred = curve - curve.mean()
        spread = float(centred @ centred)
        if spread == 0:
            continue
        for lag in range(1, len(curve) // 2):
            if float(centred[lag:] @ centred[:-lag]) / spread < math.exp(-1):
                break
            longest = max(longest, lag + 1)
    return max(1, min(2 * longest if longest > 1 else 1, min(map(len, curves)) // 2))
