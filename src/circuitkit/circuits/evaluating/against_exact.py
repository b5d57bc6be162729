"""How well attribution ranks edges: against what patching each of them really does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from circuitkit.circuits.errors import CircuitError
from circuitkit.circuits.graphs.checking import check_same
from circuitkit.circuits.graphs.graph import Graph
from circuitkit.showing import Shown
from circuitkit.statistics import Interval

Scores = Float[np.ndarray, "draw edge"]
_AT_ONCE = 1 << 22
SIGNED, MAGNITUDES = "rank correlation", "rank correlation of magnitudes"


@dataclass(frozen=True, eq=False, repr=False)
class AgainstExact(Shown):
    """How far scores agree with the exact effects of the same edges on the same pairs.

    Attributes:
        values: by measure: "rank correlation" (Spearman's, of signed scores; NaN where either are magnitudes), "rank
            correlation of magnitudes", and "overlap of the n strongest" for each n: the share of the n edges of the
            largest exact effect that are among the n of the largest scores.
        chance: what random scores are expected to give.
        intervals: over examples, or whole groups of them; NaN where a graph has kept no examples.
        method: that is held against the exact one.
        n_edges: edges that are compared.
        n_examples: pairs; 0 where they were not kept.
        level: of the intervals.
    """

    values: dict[str, float]
    chance: dict[str, float]
    intervals: dict[str, Interval]
    method: str
    n_edges: int
    n_examples: int
    level: float

    @property
    def frame(self) -> pd.DataFrame:
        """A row a measure: `method`, `measure`, `value`, `low`, `high`, `chance`, `edges`, `examples`."""
        rows = [
            (self.method, name, value, *self.intervals[name], self.chance[name], self.n_edges, self.n_examples)
            for name, value in self.values.items()
        ]
        columns = ["method", "measure", "value", "low", "high", "chance", "edges", "examples"]
        return pd.DataFrame(rows, columns=columns)

    def __str__(self) -> str:
        lines = [f"{self.method} against exact patching, {self.n_edges:,} edges, {self.n_examples} pairs:"]
        for name, value in self.values.items():
            low, high = self.intervals[name]
            lines.append(f"  {name}: {value:.3f} [{low:.3f}, {high:.3f}] (chance {self.chance[name]:.3f})")
        return "\n".join(lines)


def against_exact(
    exact: Graph,
    other: Graph,
    n: Sequence[int] | None = None,
    *,
    draws: int = 500,
    level: float = 0.95,
    seed: int = 0,
) -> AgainstExact:
    """Hold an attribution's scores against exact patching, by ranks.

    Edges are those that are members of both graphs: so with `attribute(..., method="exact", edges=some)` the ones that
    were patched.

    Args:
        exact: the scores of `method="exact"`.
        other: another method's, on the same pairs.
        n: how many strongest edges to compare; the hundredth, twentieth and tenth part of all if None.
        draws: of the bootstrap, over examples or whole groups of them.
        level: of its intervals: about a correlation by the spread of Fisher's z, of an overlap by percentiles.
        seed: of its draws.

    Raises:
        CircuitError: the graphs are of different architectures or metrics, have kept different numbers of examples, or
            share fewer than three edges; an `n` is not between 1 and their number; or there are fewer than two draws.

    >>> layout = ck.circuits.Layout((2,), (2,), (False,))
    >>> scores = torch.randn(20, *layout.reach.shape, generator=torch.Generator().manual_seed(0)) * layout.reach
    >>> graph = ck.circuits.Graph(layout, scores.mean(0), layout.reach, ck.circuits.Convention("exact", "kl"), scores)
    >>> against_exact(graph, graph, n=[3]).values["rank correlation"]
    1.0
    """
    check_same(exact.layout, other.layout, "the other graph")
    if draws < 2 or not 0 < level < 1:
        raise CircuitError(f"an interval takes 2 draws or more and a level between 0 and 1, not {draws} and {level}")
    if exact.convention.metric != other.convention.metric:
        raise CircuitError(
            f"one graph scores {exact.convention.metric} and the other {other.convention.metric}: compare methods on "
            "one metric"
        )
    edges = (exact.members & other.members).numpy()
    total = int(edges.sum())
    if total < 3:
        raise CircuitError(f"the graphs share {total} edges, and ranks need three at least")
    counts = sorted({max(1, round(total * share)) for share in (0.01, 0.05, 0.1)}) if n is None else list(n)
    for count in counts:
        if not 1 <= count <= total:
            raise CircuitError(f"n={count} strongest edges of {total} cannot be compared")
    signed = not (exact.convention.magnitudes or other.convention.magnitudes)
    measures = _measures(counts, signed)
    ones, others = (each.scores.numpy()[edges][None].astype(np.float64) for each in (exact, other))
    values = {name: float(measure(ones, others)[0]) for name, measure in measures.items()}
    chance = dict.fromkeys(values, 0.0) | {_overlap_name(count): count / total for count in counts}
    intervals = {name: Interval(float("nan"), float("nan")) for name in values}
    n_examples = 0
    if exact.per_example is not None and other.per_example is not None:
        n_examples = len(exact.per_example)
        if len(other.per_example) != n_examples:
            raise CircuitError(
                f"the graphs are of {n_examples} and {len(other.per_example)} pairs: score the same ones"
            )
        intervals = _intervals(exact, other, edges, measures, draws, level, seed)
    return AgainstExact(values, chance, intervals, other.convention.method, total, n_examples, level)


Measure = Callable[[Scores, Scores], Float[np.ndarray, " draw"]]


def _overlap_name(count: int) -> str:
    return f"overlap of the {count} strongest"


def _measures(counts: Sequence[int], signed: bool) -> dict[str, Measure]:
    def without_sign(one: Scores, other: Scores) -> NDArray[np.float64]:
        return _rank_correlation(np.abs(one), np.abs(other))

    def not_told(one: Scores, other: Scores) -> NDArray[np.float64]:
        return np.full(len(one), np.nan)

    found: dict[str, Measure] = {SIGNED: _rank_correlation if signed else not_told, MAGNITUDES: without_sign}
    for count in counts:
        found[_overlap_name(count)] = lambda one, other, count=count: _overlap(one, other, count)  # type: ignore[misc]  # its own count
    return found


def _rank_correlation(one: Scores, other: Scores) -> NDArray[np.float64]:
    """Spearman's correlation of each row; 0 where one has no ranks to tell apart."""
    ranks = [scipy.stats.rankdata(each, axis=1) for each in (one, other)]
    centred = [each - each.mean(1, keepdims=True) for each in ranks]
    size = np.sqrt((centred[0] ** 2).sum(1) * (centred[1] ** 2).sum(1))
    together: NDArray[np.float64] = (centred[0] * centred[1]).sum(1)
    found: NDArray[np.float64] = np.divide(together, size, out=np.zeros_like(together), where=size > 0)
    return found


def _overlap(one: Scores, other: Scores, count: int) -> NDArray[np.float64]:
    """The share of each row's strongest that both have; equal ones are taken by place."""
    taken = []
    for each in (one, other):
        strongest = np.argsort(-np.abs(each), axis=1, kind="stable")[:, :count]
        inside = np.zeros(each.shape, dtype=bool)
        np.put_along_axis(inside, strongest, True, axis=1)
        taken.append(inside)
    shares: NDArray[np.float64] = (taken[0] & taken[1]).sum(1) / count
    return shares


def _intervals(
    exact: Graph,
    other: Graph,
    edges: NDArray[np.bool_],
    measures: dict[str, Measure],
    draws: int,
    level: float,
    seed: int,
) -> dict[str, Interval]:
    sums, sizes = [], np.array([])
    for graph in (exact, other):
        assert graph.per_example is not None  # looked at before
        mine, sizes = _by_group(_joined(graph, graph.per_example).numpy()[:, edges], exact.groups)
        sums.append(mine)
    nothing = Interval(float("nan"), float("nan"))
    if len(sizes) < 2:
        return dict.fromkeys(measures, nothing)

    def of_means(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        means = [weights @ each / (weights @ sizes)[:, None] for each in sums]
        return np.stack([measure(*means) for measure in measures.values()], axis=1)

    drawn = np.concatenate([of_means(weights) for weights in _weights(len(sizes), draws, seed, int(edges.sum()))])
    estimates = of_means(np.ones((1, len(sizes))))[0]
    found = dict.fromkeys(measures, nothing)
    for name, values, estimate in zip(measures, drawn.T, estimates, strict=True):
        if not np.isnan(estimate):
            found[name] = (_around if name in (SIGNED, MAGNITUDES) else _percentiles)(values, estimate, level)
    return found


def _around(drawn: NDArray[np.float64], correlation: float, level: float) -> Interval:
    """An interval about a correlation, as wide as draws of Fisher's z tell.

    Not of the draws' own percentiles: edges of next to no effect change ranks in every draw, so draws lie below.
    """
    most = 1 - 1e-9
    z = np.arctanh(np.clip(drawn, -most, most))
    half = float(scipy.stats.norm.ppf((1 + level) / 2) * z.std(ddof=1))
    middle = float(np.arctanh(np.clip(correlation, -most, most)))
    return Interval(float(np.tanh(middle - half)), float(np.tanh(middle + half)))


def _percentiles(drawn: NDArray[np.float64], share: float, level: float) -> Interval:
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    # Shares of a few edges move in steps.
    return Interval(min(float(low), share), max(float(high), share))


def _joined(graph: Graph, per_example: Tensor) -> Tensor:
    return per_example.abs() if graph.convention.examples == "mean-absolute" else per_example


def _by_group(values: NDArray[Any], groups: Tensor | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The sums of each group of examples, and how many each has."""
    values = values.astype(np.float64)
    if groups is None:
        return values, np.ones(len(values))
    _, index = np.unique(groups.numpy(), return_inverse=True)
    sums = np.zeros((index.max() + 1, values.shape[1]))
    np.add.at(sums, index, values)
    return sums, np.bincount(index).astype(np.float64)


def _weights(n: int, draws: int, seed: int, n_edges: int) -> Iterator[NDArray[np.float64]]:
    random, size = np.random.default_rng(seed), max(1, _AT_ONCE // n_edges)
    for start in range(0, draws, size):
        yield random.multinomial(n, np.full(n, 1 / n), size=min(size, draws - start)).astype(np.float64)
