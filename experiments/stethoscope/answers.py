"""Answers out of cells: verdicts seed by seed, and how sure their shares, effects and margins over controls are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep
from sweeps import bits

from circuitkit import statistics

Floats = NDArray[np.float64]
LEVELS = ("I", "II", "III", "IV")


@dataclass(frozen=True)
class Answers:
    """What was answered with every seed, in one order of seeds and questions.

    Attributes:
        right: verdicts, a vector a seed.
        items: the questions' names, of all seeds one after another.
        levels: 1 to 4, of all answers; 0 where they were not asked for.
        tokens: a response's mean length with each seed.
        fluency: nats a token of each held-out text.
        truncated, unparseable: shares of answers.
    """

    right: tuple[Floats, ...]
    items: tuple[str, ...]
    levels: NDArray[np.int64]
    tokens: Floats
    fluency: Floats
    truncated: float
    unparseable: float

    @classmethod
    def of(cls, rows: pd.DataFrame) -> Answers:
        """Of the cells of one change, which hold some seeds each."""
        seeds = [int(seed) for told in rows["seeds"] for seed in str(told).split("/")]
        order = np.argsort(seeds, kind="stable")
        right = [bits(part) for told in rows["right"] for part in str(told).split("/")]
        lengths = np.cumsum([0, *(len(part) for part in right)])
        names = [name for told in rows["items"] for name in json.loads(told)]
        levels = [int(each) for told in rows["levels"] for each in str(told).replace("/", "")]
        tokens = [float(each) for told in rows["tokens"] for each in str(told).split("/")]
        places = np.concatenate([np.arange(lengths[at], lengths[at + 1]) for at in order])
        return cls(
            tuple(right[at] for at in order),
            tuple(names[at] for at in places),
            np.array(levels)[places],
            np.array(tokens)[order],
            np.mean([json.loads(told) for told in rows["fluency"]], axis=0),
            float(rows["truncated"].mean()),
            float(rows["unparseable"].mean()),
        )

    @property
    def all(self) -> Floats:
        """The verdicts of all seeds, one after another."""
        return np.concatenate(self.right)

    @property
    def by_seed(self) -> Floats:
        """The share of right answers with each seed."""
        return np.array([part.mean() for part in self.right])

    @property
    def accuracy(self) -> float:
        """The share of right answers."""
        return float(self.all.mean())

    def interval(self, *, random: bool) -> statistics.Interval:
        """A 95 % interval of the accuracy.

        Wilson's over questions, where each was asked once; else a bootstrap's over questions (Wilson's where all
        answers to all of them are right, or wrong). Where each seed has random weights of its own (`random`), Student's
        over seeds, if that is wider: seeds then differ by more than by their questions.
        """
        right = self.all
        by_item = pd.Series(right).groupby(list(self.items)).mean().to_numpy()
        if len(by_item) == len(right) or by_item.max() == 0 or by_item.min() == 1:
            low, high = statistics.wilson(int(by_item.sum()), len(by_item))
        else:
            low, high = (float(end) for end in statistics.bootstrap_mean(by_item, seed=0))
        if random:
            low, high = _over_seeds(low, high, self.by_seed)
        return statistics.Interval(max(0.0, low), min(1.0, high))

    def level_shares(self) -> dict[str, float]:
        """The share of answers of each level."""
        return {f"level {name}": float((self.levels == number).mean()) for number, name in enumerate(LEVELS, 1)}


class Margin(NamedTuple):
    """What a set does beyond as many parameters elsewhere.

    Attributes:
        mean: what controls do, the mean over them.
        low_of_controls, high_of_controls: the ends of their middle 95 %.
        value, low, high: the set's effect less that mean, and its 95 % interval.
        p: the chance that a control does at least as much in the same direction; 1 / (1 + controls) at the least.
        n: how many controls there are.
    """

    mean: float
    low_of_controls: float
    high_of_controls: float
    value: float
    low: float
    high: float
    p: float
    n: int


def _over_seeds(low: float, high: float, each: Floats) -> tuple[float, float]:
    """An interval, or Student's over the seeds' own values on either side where that reaches further."""
    if len(each) < 2:
        return low, high
    reach = float(stats.t.ppf(0.975, len(each) - 1) * each.std(ddof=1) / np.sqrt(len(each)))
    return max(-1.0, min(low, float(each.mean()) - reach)), min(1.0, max(high, float(each.mean()) + reach))


def effect(before: Answers, after: Answers, *, random: bool = False) -> statistics.Difference:
    """The difference of two accuracies on the same questions, with a 95 % interval.

    The interval is the paired bootstrap's over questions; where no answer differs, Newcombe's, which is not paired:
    that none of these differ does not mean that no other would. Where each seed has random weights of its own
    (`random`), it is Student's over seeds, if that is wider.
    """
    one, other = before.all, after.all
    if (one == other).all():
        hits, n = int(one.sum()), len(one)
        low, high = confint_proportions_2indep(hits, n, hits, n, method="newcomb", compare="diff")
        return statistics.Difference(0.0, float(low), float(high))
    found = statistics.paired_bootstrap(one, other, seed=0, groups=list(before.items))
    if not random:
        return found
    return statistics.Difference(found.value, *_over_seeds(found.low, found.high, after.by_seed - before.by_seed))


def fluency_change(before: Answers, after: Answers) -> statistics.Difference:
    """The difference of two log-likelihoods on the same texts, in nats a token, with a 95 % interval over texts."""
    return statistics.paired_bootstrap(before.fluency, after.fluency, seed=0)


def margin(
    before: Answers, after: Answers, controls: Sequence[Answers], sign: int, draws: int = 2000, *, random: bool = False
) -> Margin:
    """How much more a change does than its controls do, all on the same questions.

    The interval is Owen's pigeonhole bootstrap: questions and controls are both drawn, since other questions and other
    controls might have been asked; where each seed has random weights of its own (`random`), it is Student's over
    seeds, if that is wider. `sign` is 1 where a rise of accuracy counts, −1 where a fall does.

    Raises:
        ValueError: there is no control, or questions differ.
    """
    table = np.array([each.all for each in controls])
    if not len(table) or table.shape[1:] != after.all.shape:
        raise ValueError("a margin needs controls that answered the same questions")
    effects = table.mean(1) - before.accuracy
    observed = after.accuracy - before.accuracy
    names, where = np.unique(np.array(after.items), return_inverse=True)
    rng = np.random.default_rng(0)
    questions = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)[:, where].astype(float)
    questions /= questions.sum(1, keepdims=True)
    chosen = rng.multinomial(len(table), np.full(len(table), 1 / len(table)), size=draws) / len(table)
    drawn = questions @ after.all - np.einsum("dn,dn->d", chosen @ table, questions)
    low, high = (float(end) for end in np.quantile(drawn, [0.025, 0.975]))
    if random:
        low, high = _over_seeds(low, high, after.by_seed - np.mean([each.by_seed for each in controls], axis=0))
    as_much = int((sign * effects >= sign * observed - 1e-9).sum())
    ends = np.quantile(effects, [0.025, 0.975])
    return Margin(
        float(effects.mean()), float(ends[0]), float(ends[1]), observed - float(effects.mean()), low, high,
        (1 + as_much) / (1 + len(table)), len(table),
    )  # fmt: skip
