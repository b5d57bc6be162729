"""Many numbers as short text: whole numbers of 16 or 8 bits between two ends, in base64."""

from __future__ import annotations

import base64

import numpy as np
from jaxtyping import Float

STEPS = 65_535
"""Into how many steps the way from one end to the other is divided."""

ROOT_STEPS = 255
"""Into how many the root of it is, where a number has 8 bits: small ones keep a step that is small too."""


def packed(values: Float[np.ndarray, "*any"], low: float, high: float) -> str:
    """Numbers between two ends, each within half a step of what it was, as base64 of little-endian 16 bits.

    Raises:
        ValueError: one is NaN, or lies outside the ends.

    >>> packed(np.array([0.0, 1.0]), 0.0, 1.0)
    'AAD//w=='
    """
    return base64.b64encode(np.rint(_shares(values, low, high) * STEPS).astype("<u2").tobytes()).decode()


def unpacked(text: str, low: float, high: float) -> Float[np.ndarray, " value"]:
    """The numbers that `packed` wrote, as the front end reads them.

    >>> unpacked("AAD//w==", 0.0, 2.0).tolist()
    [0.0, 2.0]
    """
    steps = np.frombuffer(base64.b64decode(text), dtype="<u2")
    return low + steps.astype(np.float64) / STEPS * (high - low)


def packed_small(values: Float[np.ndarray, "*any"], low: float, high: float) -> str:
    """The same in half the room: 255 times the root of each number's share of the way, as base64 of 8 bits.

    A share s comes back within sqrt(s) / 255, and a little more for shares near 0.

    Raises:
        ValueError: one is NaN, or lies outside the ends.

    >>> packed_small(np.array([0.0, 0.25, 1.0]), 0.0, 1.0)
    'AID/'
    """
    return base64.b64encode(np.rint(np.sqrt(_shares(values, low, high)) * ROOT_STEPS).astype("<u1").tobytes()).decode()


def unpacked_small(text: str, low: float, high: float) -> Float[np.ndarray, " value"]:
    """The numbers that `packed_small` wrote, as the front end reads them.

    >>> unpacked_small("AP8=", 0.0, 2.0).tolist()
    [0.0, 2.0]
    """
    steps = np.frombuffer(base64.b64decode(text), dtype="<u1").astype(np.float64)
    return low + (steps / ROOT_STEPS) ** 2 * (high - low)


def _shares(values: Float[np.ndarray, "*any"], low: float, high: float) -> Float[np.ndarray, "*any"]:
    shares = (np.asarray(values, dtype=np.float64) - low) / (high - low)
    if not (np.all(shares >= 0) and np.all(shares <= 1)):
        raise ValueError(f"numbers to be packed lie between {low} and {high}, and none is NaN")
    return shares
