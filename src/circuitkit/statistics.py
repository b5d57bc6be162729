"""How sure a figure is: intervals, tests over many cells, effect sizes, and matched random controls.

Every random procedure takes its seed. Arrays may be NumPy's or torch's; a cell is one entry of the leading
axes, and examples lie along the last. A cell that is NaN throughout (a head that its layer lacks) stays NaN
and takes no part in any correction.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Generic, NamedTuple, TypeAlias, TypeVar

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy import special, stats
from statsmodels.stats.proportion import proportion_confint
from torch import Tensor

Array: TypeAlias = Tensor | np.ndarray
Floats: TypeAlias = NDArray[np.float64]
Head: TypeAlias = tuple[int, int]
T = TypeVar("T")

_BLOCK = 4_000_000
"""How many numbers one step of a resampling loop holds at a time (32 MB)."""


class Interval(NamedTuple, Generic[T]):
    """The low and the high end of an interval."""

    low: T
    high: T


def wilson(successes: int, trials: int, *, level: float = 0.95) -> Interval[float]:
    """Wilson's score interval of a proportion, such as an accuracy.

    Gives proportions between 0 and 1. Raises ValueError unless 0 <= successes <= trials and trials > 0.
    Source: Wilson 1927, J. Am. Stat. Assoc. 22.

    >>> low, high = wilson(45, 50)
    >>> round(low, 3), round(high, 3)
    (0.786, 0.957)
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes in {trials} trials is no proportion")
    low, high = proportion_confint(successes, trials, alpha=1 - _level(level), method="wilson")
    return Interval(float(low), float(high))


def bootstrap_mean(
    per_example: Float[Array, "*cells example"],
    *,
    seed: int,
    draws: int = 2000,
    level: float = 0.95,
    groups: Sequence[Hashable] | Tensor | None = None,
) -> Interval[Floats]:
    """Bias-corrected, accelerated bootstrap interval of each cell's mean over examples.

    Gives low and high ends of shape `[*cells]`, in the values' units. `groups` names each example's cluster
    (a template, a seed): whole clusters are then drawn. All cells share their draws. A cell whose examples
    are all alike has an interval of no width.

    Raises ValueError with fewer than two examples or groups. Source: Efron 1987, J. Am. Stat. Assoc. 82.

    >>> low, high = bootstrap_mean(np.arange(20.0), seed=0)
    >>> bool(low < 9.5 < high)
    True
    """
    cells, shape, real = _cells(per_example)
    sums, sizes = _by_group(cells, groups, "an interval")
    total, count = sums.sum(1), sizes.sum()
    means = total / count
    weights = np.random.default_rng(seed).multinomial(
        len(sizes), np.full(len(sizes), 1 / len(sizes)), size=draws
    )
    drawn_counts = (weights @ sizes)[:, None]
    left_out = (total[:, None] - sums) / (count - sizes)
    spread = left_out.mean(1, keepdims=True) - left_out
    with np.errstate(invalid="ignore", divide="ignore"):
        acceleration = np.nan_to_num((spread**3).sum(1) / (6 * (spread**2).sum(1) ** 1.5))
    tails = np.array([(1 - _level(level)) / 2, (1 + level) / 2])
    ends = np.empty((2, len(cells)))
    for part in _blocks(len(cells), draws):
        drawn = np.sort(weights @ sums[part].T / drawn_counts, axis=0)
        below = ((drawn < means[part]).mean(0) + (drawn <= means[part]).mean(0)) / 2
        bias = special.ndtri(below.clip(1 / (draws + 1), draws / (draws + 1)))
        moved = bias + special.ndtri(tails)[:, None]
        ends[:, part] = _quantiles(drawn, special.ndtr(bias + moved / (1 - acceleration[part] * moved)))
    still = (cells == cells[:, :1]).all(1)
    ends[:, still] = cells[still, 0]
    return Interval(_fill(ends[0], shape, real), _fill(ends[1], shape, real))


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
    groups: Sequence[Hashable] | Tensor | None = None,
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
    cells, shape, real = _cells(per_example)
    sums, sizes = _by_group(cells, groups, "a test")
    # Flips leave a cell's sum of squares alone, so |t| and |sum| / sqrt(sum of squares) rise together.
    norm = np.sqrt((sums**2).sum(1))
    scaled = np.divide(sums, norm[:, None], out=np.zeros_like(sums), where=norm[:, None] > 0)
    observed = np.abs(scaled.sum(1))
    order = np.argsort(-observed, kind="stable")
    reached = observed - 1e-9
    alone, corrected, flips = np.zeros(len(cells)), np.zeros(len(cells)), 0
    exhaustive = 2 ** (len(sizes) - 1) <= draws
    for signs in _signs(len(sizes), draws, max(1, _BLOCK // max(1, len(cells))), seed):
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
    return SignFlipTest(_fill(p, shape, real), _fill(p_corrected, shape, real), 1 / (flips + counted))


def benjamini_hochberg(p: Float[Array, "*cells"]) -> Floats:
    """Adjust p-values so that cells under q hold at most a share q of false discoveries, on average.

    Gives an array of the same shape. Source: Benjamini & Hochberg 1995, J. R. Stat. Soc. B 57.

    >>> benjamini_hochberg(np.array([0.01, 0.04, 0.03, np.nan])).round(3).tolist()
    [0.03, 0.04, 0.04, nan]
    """
    values = _array(p)
    real = ~np.isnan(values)
    adjusted = np.full(values.shape, np.nan)
    if real.any():
        adjusted[real] = stats.false_discovery_control(values[real], method="bh")
    return adjusted


def effect_size(per_example: Float[Array, "*cells example"]) -> Floats:
    """Hedges' g of each cell: the mean over examples in standard deviations, corrected for few examples.

    Gives `[*cells]`. Where examples don't differ it is infinite with the mean's sign, or NaN if all are 0.

    Raises ValueError with fewer than three examples. Source: Hedges 1981, J. Educ. Stat. 6, equation 6e.

    >>> round(float(effect_size(np.array([1.0, 2.0, 3.0]))), 3)  # 2 standard deviations times 0.564
    1.128
    """
    cells, shape, real = _cells(per_example)
    freedom = cells.shape[1] - 1
    if freedom < 2:
        raise ValueError(f"an effect size needs at least three examples; got {cells.shape[1]}")
    correction = math.exp(math.lgamma(freedom / 2) - math.lgamma((freedom - 1) / 2)) / math.sqrt(freedom / 2)
    alike = (cells == cells[:, :1]).all(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        standardised = cells.mean(1) / np.where(alike, 0.0, cells.std(1, ddof=1))
    return _fill(np.where(alike, standardised, standardised * correction), shape, real)


def jaccard(a: Collection[Hashable], b: Collection[Hashable]) -> float:
    """The share of what two sets have in common: their intersection's size over their union's.

    Raises ValueError where both are empty.

    >>> jaccard([(0, 1), (2, 3)], [(2, 3), (4, 5)])
    0.3333333333333333
    """
    union = set(a) | set(b)
    if not union:
        raise ValueError("both sets are empty, so their overlap is undefined")
    return len(set(a) & set(b)) / len(union)


def matched_heads(
    heads: Collection[Head],
    n_heads_per_layer: Sequence[int],
    *,
    draws: int,
    seed: int,
    disjoint: bool = True,
) -> list[tuple[Head, ...]]:
    """Draw random sets of heads with as many heads in each layer as the given set, to set beside it.

    Gives distinct, sorted sets, never the given one; with `disjoint` they avoid its heads altogether. Where
    no more than `draws` such sets exist, all of them come, once each: fewer than `draws` may come back.

    Raises ValueError for a head that does not exist, or where a layer has too few other heads.

    >>> matched_heads([(1, 0)], [4, 4], draws=10, seed=0)
    [((1, 1),), ((1, 2),), ((1, 3),)]
    """
    chosen = set(heads)
    if not chosen or draws < 1:
        raise ValueError(
            f"a matched control needs at least one head and one draw; got {len(chosen)}, {draws}"
        )
    for layer, head in sorted(chosen):
        if not (0 <= layer < len(n_heads_per_layer) and 0 <= head < n_heads_per_layer[layer]):
            raise ValueError(
                f"head {head} of layer {layer} does not exist; heads per layer are {list(n_heads_per_layer)}"
            )
    wanted = sorted(Counter(layer for layer, _ in chosen).items())
    pools = {
        layer: [
            (layer, head)
            for head in range(n_heads_per_layer[layer])
            if not (disjoint and (layer, head) in chosen)
        ]
        for layer, _ in wanted
    }
    for layer, number in wanted:
        if len(pools[layer]) < number:
            raise ValueError(
                f"layer {layer} has {len(pools[layer])} heads outside the set, too few to match its "
                f"{number}; compare fewer heads, or pass disjoint=False so that controls may share heads "
                "with the set"
            )
    possible = math.prod(math.comb(len(pools[layer]), number) for layer, number in wanted) - (not disjoint)
    if possible == 0:
        raise ValueError("the set holds every head of its layers, so no other set matches it")
    if possible <= draws:
        ways = product(*(combinations(pools[layer], number) for layer, number in wanted))
        every = [tuple(head for part in parts for head in part) for parts in ways]
        return [one for one in every if set(one) != chosen]
    rng = np.random.default_rng(seed)
    drawn: dict[tuple[Head, ...], None] = {}
    while len(drawn) < draws:
        one = tuple(
            pools[layer][i]
            for layer, number in wanted
            for i in sorted(rng.choice(len(pools[layer]), number, replace=False).tolist())
        )
        if set(one) != chosen:
            drawn[one] = None
    return list(drawn)


@dataclass(frozen=True)
class Control:
    """A set's effect beside those of its matched random controls.

    `low` and `high` hold the middle `level` of the controls; `p` is the chance that a random set does at
    least as much, in magnitude, and cannot be under `1 / (1 + len(controls))`.
    """

    observed: float
    controls: tuple[float, ...]
    mean: float
    low: float
    high: float
    p: float
    level: float


def against_controls(observed: float, controls: Sequence[float], *, level: float = 0.95) -> Control:
    """Place an effect among the effects measured for matched random sets.

    Raises ValueError without controls, or where a number is not finite.

    >>> against_controls(5.0, [0.1, -0.2, 0.3]).p
    0.25
    """
    values = np.asarray(controls, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite([observed, *values]).all():
        raise ValueError(f"a control needs finite effects, at least one; got {observed} against {controls}")
    low, high = np.quantile(values, [(1 - _level(level)) / 2, (1 + level) / 2])
    as_large = int((np.abs(values) >= abs(observed) * (1 - 1e-9)).sum())
    return Control(
        observed=float(observed),
        controls=tuple(values.tolist()),
        mean=float(values.mean()),
        low=float(low),
        high=float(high),
        p=(1 + as_large) / (1 + len(values)),
        level=level,
    )


def matched_control(
    effects: Float[Array, "layer head"],
    heads: Collection[Head],
    *,
    seed: int,
    draws: int = 1000,
    level: float = 0.95,
    disjoint: bool = True,
) -> Control:
    """Compare a set's mean effect per head with that of random sets matched in layer and number.

    `effects` are heads' own effects, NaN behind a layer's last head. To compare what sets do together, run
    the sets of `matched_heads` and hand their effects to `against_controls`.

    Raises ValueError as `matched_heads` does.

    >>> matched_control(np.array([[9.0, 0.0, 0.1, 0.2]]), [(0, 0)], seed=0).p
    0.25
    """
    table = _array(effects)
    if table.ndim != 2:
        raise ValueError(f"effects must have shape [layer, head]; got {table.shape}")
    n_heads = (~np.isnan(table)).sum(1)
    if any(np.isnan(row[:n]).any() for row, n in zip(table, n_heads, strict=True)):
        raise ValueError("effects have a NaN before a layer's last head; give the effect of every head")
    sets = matched_heads(heads, n_heads.tolist(), draws=draws, seed=seed, disjoint=disjoint)
    means = [float(np.mean([table[head] for head in one])) for one in sets]
    return against_controls(float(np.mean([table[head] for head in set(heads)])), means, level=level)


def _level(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, such as 0.95; got {level}")
    return level


def _array(values: Array) -> Floats:
    if isinstance(values, Tensor):
        values = values.detach().double().cpu().numpy()
    return np.asarray(values, dtype=np.float64)


def _cells(per_example: Array) -> tuple[Floats, tuple[int, ...], NDArray[np.bool_]]:
    """Real cells as rows `[cell, example]`, the shape of all cells, and which of them are real."""
    values = _array(per_example)
    if values.ndim == 0 or values.shape[-1] == 0:
        raise ValueError(f"values must have examples along their last axis; got shape {values.shape}")
    rows = values.reshape(-1, values.shape[-1])
    real = np.asarray(~np.isnan(rows).all(axis=1))
    if not np.isfinite(rows[real]).all():
        raise ValueError(
            "a cell has NaN or infinite values for some of its examples; give all, or NaN for all"
        )
    return rows[real], values.shape[:-1], real


def _fill(real_values: Floats, shape: tuple[int, ...], real: NDArray[np.bool_]) -> Floats:
    filled = np.full(len(real), np.nan)
    filled[real] = real_values
    return filled.reshape(shape)


def _by_group(
    cells: Floats, groups: Sequence[Hashable] | Tensor | None, purpose: str
) -> tuple[Floats, Floats]:
    """Each cell's sum over every group `[cell, group]`, and the groups' sizes; alone, an example is one."""
    n_examples = cells.shape[1]
    names = groups.tolist() if isinstance(groups, Tensor) else groups
    if names is None:
        sums, sizes = cells, np.ones(n_examples)
    else:
        if len(names) != n_examples:
            raise ValueError(f"{len(names)} groups for {n_examples} examples; name each example's group")
        codes = {name: code for code, name in enumerate(dict.fromkeys(names))}
        member = np.zeros((n_examples, len(codes)))
        member[np.arange(n_examples), [codes[name] for name in names]] = 1
        sums, sizes = cells @ member, member.sum(0)
    if len(sizes) < 2:
        what = "example" if groups is None else "group"
        raise ValueError(f"{purpose} needs at least two {what}s; got {len(sizes)}")
    return sums, sizes


def _blocks(n_cells: int, draws: int) -> Iterator[slice]:
    step = max(1, _BLOCK // draws)
    for start in range(0, n_cells, step):
        yield slice(start, min(start + step, n_cells))


def _quantiles(drawn: Floats, at: Floats) -> Floats:
    """Linearly interpolated quantiles `at` `[2, cell]` of sorted columns `drawn` `[draw, cell]`."""
    place = at * (len(drawn) - 1)
    under = np.floor(place).astype(np.int64)
    low = np.take_along_axis(drawn, under, axis=0)
    high = np.take_along_axis(drawn, np.minimum(under + 1, len(drawn) - 1), axis=0)
    return np.asarray(low + (high - low) * (place - under))


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
