"""Many numbers as short text: whole numbers of 16 bits between two ends, in base64."""

from __future__ import annotations

import base64

import numpy as np
from jaxtyping import Float

STEPS = 65_535
"""Into how many steps the way from one end to the other is divided."""


def packed(values: Float[np.ndarray, "*any"], low: float, high: float) -> str:
    """Numbers between two ends, each within half a step of what it was, as base64 of little-endian 16 bits.

    Raises:
        ValueError: one is NaN, or lies outside the ends.

    >>> packed(np.array([0.0, 1.0]), 0.0, 1.0)
    'AAD//w=='
    """
    shares = (np.asarray(values, dtype=np.float64) - low) / (high - low)
    if not (np.all(shares >= 0) and np.all(shares <= 1)):
        raise ValueError(f"numbers to be packed lie between {low} and {high}, and none is NaN")
    return base64.b64encode(np.rint(shares * STEPS).astype("<u2").tobytes()).decode()


def unpacked(text: str, low: float, high: float) -> Float[np.ndarray, " value"]:
    """The numbers that `packed` wrote, as the front end reads them.

    >>> unpacked("AAD//w==", 0.0, 2.0).tolist()
    [0.0, 2.0]
    """
    steps = np.frombuffer(base64.b64decode(text), dtype="<u2")
    return low + steps.astype(np.float64) / STEPS * (high - low)
