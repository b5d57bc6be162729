"""Two models on the same items: which differ, and how sure the difference is."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from circuitkit.statistics.cells import Array, Groups, as_array
from circuitkit.statistics.intervals import bootstrap_mean


class McNemar(NamedTuple):
    """Items that one alone gets right, and the two-sided p of such a split where both are as good."""

    only_first: int
    only_second: int
    p: float


class Difference(NamedTuple):
    """A difference of means, second less first, and its interval."""

    value: float
    low: float
    high: float


def mcnemar(first: Bool[Array, " item"] | Sequence[bool], second: Bool[Array, " item"] | Sequence[bool]) -> McNemar:
    """McNemar's exact test of two sets of verdicts on the same items.

    Raises ValueError where they are not as many. Source: McNemar 1947, Psychometrika 12.

    >>> mcnemar([True] * 8 + [False], [False] * 8 + [True])
    McNemar(only_first=8, only_second=1, p=0.0390625)
    """
    from statsmodels.stats.contingency_tables import mcnemar as table_test

    one, other = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if one.shape != other.shape or one.ndim != 1 or not len(one):
        raise ValueError(f"two verdicts an item are needed; got {one.shape} and {other.shape}")
    only_first, only_second = int((one & ~other).sum()), int((~one & other).sum())
    table = [[int((one & other).sum()), only_first], [only_second, int((~one & ~other).sum())]]
    p = 1.0 if only_first == only_second else float(table_test(table, exact=True).pvalue)
    return McNemar(only_first, only_second, p)


def paired_bootstrap(
    first: Float[Array, " example"],
    second: Float[Array, " example"],
    *,
    seed: int,
    draws: int = 2000,
    level: float = 0.95,
    groups: Groups | None = None,
) -> Difference:
    """Bias-corrected, accelerated bootstrap interval of the difference of two means over the same examples.

    `groups` names each example's cluster, such as the item that several samples answer: whole clusters are then drawn.

    Raises ValueError where they are not as many, or with fewer than two examples or groups.
    Source: Efron 1987, J. Am. Stat. Assoc. 82.

    >>> value, low, high = paired_bootstrap(np.array([0, 0, 1, 0]), np.array([1, 1, 1, 0]), seed=0)
    >>> value, low <= value <= high
    (0.5, True)
    """
    one, other = as_array(first), as_array(second)
    if one.shape != other.shape or one.ndim != 1:
        raise ValueError(f"two values an example are needed; got {one.shape} and {other.shape}")
    low, high = bootstrap_mean(other - one, seed=seed, draws=draws, level=level, groups=groups)
    return Difference(float((other - one).mean()), float(low), float(high))


def pass_at_k(n: int, c: int, k: int) -> float:
    """The chance that one of k responses is right, where c of n are: 1 − C(n−c, k)/C(n, k), without bias.

    Raises ValueError unless 0 <= c <= n and 1 <= k <= n. Source: Chen et al. 2021, arXiv 2107.03374.

    >>> pass_at_k(4, 1, 2)
    0.5
    """
    if not 0 <= c <= n or not 1 <= k <= n:
        raise ValueError(f"pass@{k} of {n} responses, {c} of them right, is no chance")
    return 1 - comb(n - c, k) / comb(n, k)
