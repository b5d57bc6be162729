"""Squares and products of a weight and of its change, added up in float64 while the weight goes by in pieces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from circuitkit.sfn.differences.widening import Matrix, Wide

Sums = Float[np.ndarray, "sum head"]

A, B, CHANGE, PRODUCT = range(4)
"""The rows of `Sums`: squares of A, of B and of the change B − A, and products of A with the change."""

_SLIGHT = 1 / 16
"""Squares of B follow without loss of digits from those of A where those of the change are under this share of them."""
_STRETCH = 1 << 13


@dataclass(frozen=True)
class Heads:
    """How a projection's heads lie in it: as so many equal stretches, one after another, along an axis of two.

    Attributes:
        count: of heads.
        axis: 0 for rows, as in the q_proj of a linear layer; 1 for columns, as in its o_proj.
    """

    count: int
    axis: int


def summed(wide: Wide, rows: int, heads: Heads | None) -> Sums:
    """The sums of a piece, of each head apart where there are heads, and of all of it together where not.

    Args:
        wide: the piece.
        rows: of the whole that it is a piece of.
        heads: of the whole.
    """
    pairs = (wide.a, wide.a), (wide.a, wide.change), (wide.change, wide.change)
    a, product, change = (_products(*pair, wide.first, rows, heads) for pair in pairs)
    if (change < a * _SLIGHT).all():
        return np.array((a, a + 2 * product + change, change, product))
    b = wide.b()
    return np.array((a, _products(b, b, wide.first, rows, heads), change, product))


def _products(one: Matrix, other: Matrix, first: int, rows: int, heads: Heads | None) -> Float[np.ndarray, " head"]:
    if heads is None:
        return _dot(one.reshape(-1), other.reshape(-1))
    if heads.axis == 1:
        apart = (len(one), heads.count, -1)
        return np.asarray(np.vecdot(one.reshape(apart), other.reshape(apart)).sum(0))
    which = np.arange(first, first + len(one)) * heads.count // rows
    return np.asarray(np.bincount(which, np.vecdot(one, other), heads.count))


def _dot(one: Float[np.ndarray, " entry"], other: Float[np.ndarray, " entry"]) -> Float[np.ndarray, " all"]:
    # Stretches so short are multiplied in this thread alone: those of several threads would wait for one another.
    if over := len(one) % _STRETCH:
        return np.asarray(_dot(one[:-over], other[:-over]) + one[-over:] @ other[-over:])
    return np.asarray(np.vecdot(one.reshape(-1, _STRETCH), other.reshape(-1, _STRETCH)).sum(keepdims=True))


@dataclass(frozen=True)
class Norms:
    """What sums say of a change, an entry a head (or one of all).

    A ratio that nothing defines, as that to a norm of zero, is NaN.

    Attributes:
        norm: L2, of the change.
        norm_a, norm_b: of A and B.
        relative: `norm` over `norm_a`.
        rms: `norm` over the root of the number of elements.
        cosine: of A and B.
        cosine_with_a: of the change and A: below zero where weights shrank.
    """

    norm: Float[np.ndarray, " head"]
    norm_a: Float[np.ndarray, " head"]
    norm_b: Float[np.ndarray, " head"]
    relative: Float[np.ndarray, " head"]
    rms: Float[np.ndarray, " head"]
    cosine: Float[np.ndarray, " head"]
    cosine_with_a: Float[np.ndarray, " head"]


MEASURES = tuple(Norms.__dataclass_fields__)


def norms(sums: Sums, elements: int) -> Norms:
    """Norms and cosines of `elements` numbers each.

    >>> norms(np.array([[4.0], [9.0], [1.0], [2.0]]), 4).cosine.tolist()
    [1.0]
    """
    a, b, change = np.sqrt(sums[[A, B, CHANGE]])
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = np.clip((sums[A] + sums[PRODUCT]) / np.sqrt(sums[A] * _squares_of_b(sums)), -1.0, 1.0)
        along = np.clip(sums[PRODUCT] / (a * change), -1.0, 1.0)
        relative = change / a
    return Norms(change, a, b, _defined(relative), change / np.sqrt(elements), _defined(cosine), _defined(along))


def _squares_of_b(sums: Sums) -> Float[np.ndarray, " head"]:
    """Those of B by way of the change, unless that loses digits: a cosine near 1 is then exact in its distance to 1."""
    through = sums[A] + 2 * sums[PRODUCT] + sums[CHANGE]
    return np.asarray(np.where(sums[CHANGE] < sums[A] * _SLIGHT, through, sums[B]))


def _defined(ratio: Float[np.ndarray, " head"]) -> Float[np.ndarray, " head"]:
    return np.asarray(np.where(np.isfinite(ratio), ratio, np.nan))
