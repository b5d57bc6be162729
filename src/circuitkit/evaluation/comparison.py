"""Two evaluations on the same items: how far apart they are, and how sure that is."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from circuitkit import statistics
from circuitkit.evaluation.errors import EvaluationError
from circuitkit.evaluation.outcome import Evaluation


class Comparison(NamedTuple):
    """How a second evaluation differs from a first on the items that both asked.

    Attributes:
        n_items: the items that both asked.
        first, second: their accuracies on these.
        difference: second less first.
        low, high: the 95 % interval of the difference, from a paired bootstrap over items.
        p: two-sided, of no difference: McNemar's exact test where each item has one response in both, else a test
            that flips the signs of whole items' differences.
        test: which of the two.
        only_first, only_second: items that one alone gets right; None where an item has several responses.
    """

    n_items: int
    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float
    test: str
    only_first: int | None
    only_second: int | None

    def __str__(self) -> str:
        return (
            f"{100 * self.first:.1f} % and {100 * self.second:.1f} % on {self.n_items} items: "
            f"{100 * self.difference:+.1f} points ({100 * self.low:+.1f} to {100 * self.high:+.1f}; "
            f"p = {self.p:.4g}, {self.test})"
        )

    def _repr_html_(self) -> str:
        from circuitkit.report import notebook

        return notebook.html("Comparison", [f"{self}."], pd.DataFrame([self._asdict()]))


def compare(first: Evaluation, second: Evaluation, *, judge: str | None = None, seed: int = 0) -> Comparison:
    """Compare two evaluations, item by item, on the items that both asked.

    Args:
        first, second: of the same task; the difference is second less first.
        judge: whose verdicts; the headline's if None.
        seed: of the bootstrap.

    Raises:
        EvaluationError: they share fewer than two items, a shared item is another question, or one has no such judge.
    """
    judge = judge or first.judges[0]
    for each in (first, second):
        each.share(judge)
    one, other = ({item.key: item for item in each.items} for each in (first, second))
    shared = [key for key in one if key in other]
    if len(shared) < 2:
        raise EvaluationError(
            f"{first.task} of {first.model} and {second.task} of {second.model} share {len(shared)} items, and a "
            "comparison needs two or more: evaluate both on the same items"
        )
    for key in shared:
        if (one[key].question, one[key].gold) != (other[key].question, other[key].gold):
            raise EvaluationError(f"item {key!r} is another question in each: evaluate both on the same task")
    before, after = (each.frame.groupby("key")[judge].mean()[shared].to_numpy(dtype=float) for each in (first, second))
    difference = statistics.paired_bootstrap(before, after, seed=seed)
    only: tuple[int, int] | tuple[None, None] = (None, None)
    if all(each.frame["key"].value_counts()[shared].eq(1).all() for each in (first, second)):
        tested = statistics.mcnemar(before == 1, after == 1)
        p, test, only = tested.p, "McNemar, exact", (tested.only_first, tested.only_second)
    else:
        p, test = float(statistics.sign_flip_test((after - before)[None], seed=seed).p[0]), "signs of items flipped"
    accuracies = float(before.mean()), float(after.mean())
    return Comparison(len(shared), *accuracies, *difference, p, test, *only)
