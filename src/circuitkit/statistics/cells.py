"""How data lie in every statistic: cells along the leading axes, examples along the last, groups of examples."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

Array: TypeAlias = Tensor | np.ndarray
Floats: TypeAlias = NDArray[np.float64]
Groups: TypeAlias = Sequence[Hashable] | Tensor

BLOCK = 4_000_000
"""How many numbers one step of a resampling loop holds at a time (32 MB)."""


def checked_level(level: float) -> float:
    """Give the level back, or raise ValueError where it is no share between 0 and 1.

    >>> checked_level(0.95)
    0.95
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, such as 0.95; got {level}")
    return level


def as_array(values: ArrayLike | Array) -> Floats:
    """Take a tensor of any device and dtype, or an array, as float64.

    >>> import torch
    >>> as_array(torch.tensor([1.5], dtype=torch.bfloat16))
    array([1.5])
    """
    if isinstance(values, Tensor):
        values = values.detach().cpu().double().numpy()
    return np.asarray(values, dtype=np.float64)


def real_cells(per_example: Array) -> tuple[Floats, tuple[int, ...], NDArray[np.bool_]]:
    """Real cells as rows `[cell, example]`, the shape of all cells, and which of them are real."""
    values = as_array(per_example)
    if values.ndim == 0 or values.shape[-1] == 0:
        raise ValueError(f"values must have examples along their last axis; got shape {values.shape}")
    rows = values.reshape(-1, values.shape[-1])
    real = np.asarray(~np.isnan(rows).all(axis=1))
    if not np.isfinite(rows[real]).all():
        raise ValueError("a cell has NaN or infinite values for some of its examples; give all, or NaN for all")
    return rows[real], values.shape[:-1], real


def fill(real_values: Floats, shape: tuple[int, ...], real: NDArray[np.bool_]) -> Floats:
    """Put the real cells' values back into the shape of all cells, NaN elsewhere.

    >>> fill(np.array([2.0]), (1, 2), np.array([False, True]))
    array([[nan,  2.]])
    """
    filled = np.full(len(real), np.nan)
    filled[real] = real_values
    return filled.reshape(shape)


def blocks(n_cells: int, numbers: int) -> Iterator[slice]:
    """Cells, so many numbers each, in blocks that a step of a resampling loop can hold.

    >>> list(blocks(3, BLOCK // 2))
    [slice(0, 2, None), slice(2, 3, None)]
    """
    step = max(1, BLOCK // numbers)
    for start in range(0, n_cells, step):
        yield slice(start, min(start + step, n_cells))


def by_group(cells: Floats, groups: Groups | None, purpose: str) -> tuple[Floats, Floats]:
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
