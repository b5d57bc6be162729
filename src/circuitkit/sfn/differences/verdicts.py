"""What the bimodality of a module comes from, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from circuitkit.sfn.differences.bimodality import LEAST, Bimodality

Verdict = Literal[
    "unchanged",
    "too few",
    "unimodal",
    "rounding",
    "small weights",
    "sign-like",
    "sizes alone",
    "bimodal",
    "other modes",
]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

LEVEL = 0.05
"""Of false discoveries of more than one mode, over all modules of a comparison."""
MADE = 0.5
"""A control that has this share of the dip, or leaves no more than this share of it, makes the modes."""
ALIKE = 0.5
"""Changes whose magnitudes vary by less than this share of their mean are sign-like; a Gaussian's vary by 0.76."""
HOLLOW = 0.25
"""Modes on both sides of zero have a hollow at zero of this depth."""


@dataclass(frozen=True)
class Judgement:
    """A verdict, and the sentence that says why.

    Attributes:
        verdict: `unchanged`; `too few` to say; `unimodal`; modes that are made by `rounding`, by `small weights`, by
            `sign-like` changes (all about as large), or by the weights' and the changes' `sizes alone`; and modes that
            none of these makes: `bimodal`, on either side of zero, or `other modes`.
        because: why, with the figures.
    """

    verdict: Verdict
    because: str


def judged(found: Bimodality, p_corrected: float) -> Judgement:
    """Say what a module's modes come from, given its p corrected for all modules that are looked at.

    Controls are asked in the order in which they explain: rounding first, which may look like any other, then small
    weights, then the sizes of weights and changes.
    """
    if np.isnan(found.variation):
        return Judgement("unchanged", "no sampled weight changed")
    if found.entries < LEAST:
        return Judgement("too few", f"{found.entries} sampled weights changed by less than themselves")
    if not p_corrected < LEVEL:
        return Judgement(
            "unimodal", f"one mode explains it (dip {found.dip:.4f}, p = {p_corrected:.2g} after correction)"
        )
    told = f"more than one mode (dip {found.dip:.4f}, p = {p_corrected:.2g} after correction)"
    for verdict, makes, why in _controls(found):
        if makes:
            return Judgement(verdict, f"{told}, but {why}")
    survives = "neither rounding, nor small weights, nor the sizes of weights and changes make it"
    if found.depth >= HOLLOW:
        return Judgement("bimodal", f"{told}, on both sides of zero (hollow {found.depth:.2f}); {survives}")
    return Judgement("other modes", f"{told}, with no hollow at zero (depth {found.depth:.2f}); {survives}")


def _controls(found: Bimodality) -> tuple[tuple[Verdict, bool, str], ...]:
    by_sizes = found.dip_shuffled >= MADE * found.dip
    alike = found.variation < ALIKE
    shuffled = f"the same changes shuffled among the weights give {found.dip_shuffled:.4f}"
    return (
        (
            "rounding",
            found.dip_rounding >= MADE * found.dip,
            f"Gaussian changes rounded to {found.precision} give {found.dip_rounding:.4f}, and "
            f"{found.within_unit:.0%} of the changes are one step of {found.precision} or less",
        ),
        (
            "small weights",
            # Where larger weights are too few to tell, the modes are the small ones' as well.
            not found.dip_large > MADE * found.dip,
            f"without weights under a tenth of the root mean square it is {found.dip_large:.4f}",
        ),
        (
            "sign-like",
            by_sizes and alike,
            f"{shuffled}: the changes are sign-like, all about as large (their magnitudes vary by "
            f"{found.variation:.0%} of their mean, a Gaussian's by 76%)",
        ),
        (
            "sizes alone",
            by_sizes,
            f"{shuffled}: it takes the sizes of weights and changes, and not which goes with which",
        ),
    )
