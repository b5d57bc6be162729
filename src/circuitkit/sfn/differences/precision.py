"""Number formats of weights: the step from one value to the next, and which format a set of values is from."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float

Precision = Literal["bfloat16", "float16", "float32", "float64"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
"""Coarsest first."""


def rounded(values: Float[np.ndarray, "*entry"], precision: Precision) -> Float[np.ndarray, "*entry"]:
    """Values as a format keeps them; what is too large for it becomes infinite.

    >>> rounded(np.array([1.001]), "bfloat16").tolist()
    [1.0]
    """
    return np.asarray(torch.from_numpy(values).to(getattr(torch, precision)).double().numpy())


def unit(values: Float[np.ndarray, "*entry"], precision: Precision) -> Float[np.ndarray, "*entry"]:
    """The distance from each value to the next larger one in magnitude that a format has.

    >>> unit(np.array([1.0, 0.0]), "bfloat16").tolist() == [2**-7, 2**-133]
    True
    """
    about = torch.finfo(getattr(torch, precision))
    _, exponents = np.frexp(np.maximum(np.abs(values), about.tiny))
    return np.asarray(np.ldexp(about.eps, exponents - 1))


def coarsest(values: Float[np.ndarray, "*entry"], stored: torch.dtype) -> Precision:
    """The coarsest format that holds all of some values, which may have been stored in a finer one.

    >>> coarsest(np.array([0.5, 1.0078125]), torch.float32), coarsest(np.array([0.1]), torch.float64)
    ('bfloat16', 'float64')
    """
    for precision in PRECISIONS:
        if getattr(torch, precision) is stored or _holds(values, precision).all():
            return precision
    return "float32"


def _holds(values: Float[np.ndarray, "*entry"], precision: Precision) -> Bool[np.ndarray, "*entry"]:
    return np.asarray(rounded(values, precision) == values)


def coarser(one: Precision, other: Precision) -> Precision:
    """Whichever of two formats has fewer digits.

    >>> coarser("float32", "bfloat16")
    'bfloat16'
    """
    return min(one, other, key=PRECISIONS.index)
