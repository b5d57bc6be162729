"""Two counts of right answers to the same questions, where it is not told which questions each had right."""

from __future__ import annotations

from scipy.stats import binomtest, fisher_exact
from statsmodels.stats.proportion import confint_proportions_2indep


def held_against(first: int, second: int, n: int) -> dict[str, float]:
    """What the difference of two counts out of `n` questions can bear.

    `p_least` and `p_most` are McNemar's exact p where the right answers overlap as much, or as little, as the counts
    allow; the true one lies between them. `p_unpaired` is Fisher's; the interval, Newcombe's, is unpaired too.

    >>> told = held_against(9, 8, 30)
    >>> told["p_least"], round(told["difference"], 3)
    (1.0, -0.033)
    """
    low, high = confint_proportions_2indep(second, n, first, n, method="newcomb", compare="diff")
    # The overlap of right answers is at most the smaller count, and at least what no longer fits beside the larger.
    most, least = min(first, second), max(0, first + second - n)
    return {
        "n": n,
        "right_first": first,
        "right_second": second,
        "difference": (second - first) / n,
        "low": low,
        "high": high,
        "p_least": _mcnemar(first - most, second - most),
        "p_most": _mcnemar(first - least, second - least),
        "p_unpaired": float(fisher_exact([[first, n - first], [second, n - second]]).pvalue),
    }


def _mcnemar(only_first: int, only_second: int) -> float:
    split = only_first + only_second
    return float(binomtest(only_first, split).pvalue) if split else 1.0
