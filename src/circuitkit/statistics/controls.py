"""Random heads, matched in layer and number, to set beside the heads that a study found."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import TypeAlias

import numpy as np
from jaxtyping import Float

from circuitkit.statistics.cells import Array, as_array, checked_level

Head: TypeAlias = tuple[int, int]
"""A layer and a head in it."""


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
        raise ValueError(f"a matched control needs at least one head and one draw; got {len(chosen)}, {draws}")
    for layer, head in sorted(chosen):
        if not (0 <= layer < len(n_heads_per_layer) and 0 <= head < n_heads_per_layer[layer]):
            raise ValueError(
                f"head {head} of layer {layer} does not exist; heads per layer are {list(n_heads_per_layer)}"
            )
    wanted = sorted(Counter(layer for layer, _ in chosen).items())
    pools = {
        layer: [(layer, head) for head in range(n_heads_per_layer[layer]) if not (disjoint and (layer, head) in chosen)]
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
    low, high = np.quantile(values, [(1 - checked_level(level)) / 2, (1 + level) / 2])
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
    table = as_array(effects)
    if table.ndim != 2:
        raise ValueError(f"effects must have shape [layer, head]; got {table.shape}")
    n_heads = (~np.isnan(table)).sum(1)
    if any(np.isnan(row[:n]).any() for row, n in zip(table, n_heads, strict=True)):
        raise ValueError("effects have a NaN before a layer's last head; give the effect of every head")
    sets = matched_heads(heads, n_heads.tolist(), draws=draws, seed=seed, disjoint=disjoint)
    means = [float(np.mean([table[head] for head in one])) for one in sets]
    return against_controls(float(np.mean([table[head] for head in set(heads)])), means, level=level)
