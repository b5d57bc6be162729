"""In how many directions a matrix acts: its stable rank, of matrices in memory and of those that go by in blocks.

Source: Rudelson & Vershynin 2007, J. ACM 54; the largest singular value by Lanczos 1950, J. Res. NBS 45, with the
stopping rule of Parlett 1998, The Symmetric Eigenvalue Problem, chapter 11.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

Blocks = Callable[[], Iterator[Float[Tensor, "row column"]]]
"""Gives a matrix from its beginning to its end in blocks of rows, as often as it is called."""

SMALL = 256
"""A matrix whose smaller side is up to this is multiplied with itself rather than with vectors."""
_MOST_STEPS = 300


def stable_rank(matrix: Float[Tensor, "row column"]) -> float:
    """The squared Frobenius norm of a matrix over its squared largest singular value: in how many directions it acts.

    From 1, where one direction is all, to the matrix's rank; NaN of a matrix of noughts. Raises ValueError for what is
    no matrix. Source: Rudelson & Vershynin 2007, J. ACM 54.

    >>> round(stable_rank(torch.eye(3)), 6), round(stable_rank(torch.outer(torch.ones(3), torch.ones(5))), 6)
    (3.0, 1.0)
    """
    if matrix.ndim != 2:
        raise ValueError(f"a stable rank is a matrix's; got shape {tuple(matrix.shape)}")
    wide = matrix.detach().double()
    wide = wide if wide.shape[0] >= wide.shape[1] else wide.T
    largest = largest_squared(lambda: iter([wide]), wide.shape[1], tolerance=1e-9)
    return float(wide.square().sum() / largest) if largest > 0 else float("nan")


def largest_squared(blocks: Blocks, columns: int, *, tolerance: float = 1e-6) -> float:
    """The square of a matrix's largest singular value, to a relative tolerance; 0 of a matrix of noughts.

    Blocks are read once where the matrix has up to 256 columns, and otherwise until the tolerance holds, from about ten
    times, where few directions stand out, to about fifty. Sums over blocks are in float64, those within one in its own
    dtype. Raises ArithmeticError where 300 times are not enough.

    >>> matrix = torch.diag(torch.arange(5.0))
    >>> round(largest_squared(lambda: iter(matrix.split(2)), 5), 6)
    16.0
    """
    if columns <= SMALL:
        gram = sum((_gram(block) for block in blocks()), torch.zeros(columns, columns, dtype=torch.float64))
        return max(0.0, float(torch.linalg.eigvalsh(gram)[-1]))
    return _lanczos(blocks, columns, tolerance)


def _gram(block: Float[Tensor, "row column"]) -> Float64[Tensor, "column column"]:
    wide = block.double()
    return wide.T @ wide


def _lanczos(blocks: Blocks, columns: int, tolerance: float) -> float:
    """The largest eigenvalue of the matrix's product with itself, by vectors orthogonalised in full."""
    drawn = np.random.default_rng(0).standard_normal(columns)
    basis = [torch.from_numpy(drawn / np.linalg.norm(drawn))]
    along: list[float] = []
    across: list[float] = []
    for _ in range(min(_MOST_STEPS, columns)):
        vector = _twice(blocks, basis[-1])
        along.append(float(vector @ basis[-1]))
        known = torch.stack(basis)
        # Twice is enough to be orthogonal to rounding.
        for _again in range(2):
            vector = vector - known.T @ (known @ vector)
        length = float(vector.norm())
        values, last = _ritz(along, across)
        largest = float(values[-1])
        if largest <= 0 or length <= 1e-14 * largest:
            return max(0.0, largest)
        if len(values) > 1 and _off(length * abs(last), values) <= tolerance * largest:
            return largest
        across.append(length)
        basis.append(vector / length)
    if len(along) == columns:
        return largest
    raise ArithmeticError(f"the largest singular value is not found to {tolerance:g} in {_MOST_STEPS} passes")


def _twice(blocks: Blocks, vector: Float64[Tensor, " column"]) -> Float64[Tensor, " column"]:
    """A matrix times a vector, and its transpose times that, in one pass."""
    found = torch.zeros_like(vector)
    narrow = vector
    for block in blocks():
        narrow = narrow if narrow.dtype is block.dtype else vector.to(block.dtype)
        found += ((block @ narrow) @ block).double()
    return found


def _ritz(along: list[float], across: list[float]) -> tuple[Float[np.ndarray, " value"], float]:
    """The eigenvalues of what the vectors have seen so far, and the last entry of the largest one's eigenvector."""
    seen = np.diag(along) + np.diag(across, 1) + np.diag(across, -1)
    values, vectors = np.linalg.eigh(seen)
    return values, float(vectors[-1, -1])


def _off(residual: float, values: Float[np.ndarray, " value"]) -> float:
    """How far the largest value can be off: by its residual, or by the square of that over the gap to the next."""
    gap = float(values[-1] - values[-2])
    return min(residual, residual**2 / gap) if gap > 0 else residual
