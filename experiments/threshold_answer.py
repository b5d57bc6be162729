"""What all searches for a threshold found together: how many, where, and which stand when all are counted as tries."""

from __future__ import annotations

import numpy as np
import pandas as pd

from circuitkit.statistics import holm
from circuitkit.thresholds.sentences import size

_MOST = 6
"""Thresholds that are listed by name."""

_ALPHA = 0.05

_OTHERS = {
    "possible": "a threshold is possible, but models or families left out are predicted as well without one",
    "growth": "accuracy changes with size, and no rise is shown to begin",
    "flat": "accuracy cannot be shown to go with size",
}


def corrected(fits: pd.DataFrame) -> pd.DataFrame:
    """The same table with `p_corrected`: that accuracy goes with size and not smoothly, over all searches (Holm)."""
    return fits.assign(p_corrected=holm(np.maximum(fits["p"], fits["p_trend"])))


def answer(fits: pd.DataFrame, *, draws: int) -> str:
    """The answer in a few sentences: of a table with a row a search, as `corrected` gives it.

    Args:
        fits: the table.
        draws: of each search's test, of which no p is under 1 / (draws + 1).

    >>> row = {"task": "sums", "p": 0.001, "p_trend": 0.001, "breakpoint": 2e9, "low": 1e9, "high": 3e9}
    >>> fits = pd.DataFrame([row | {"verdict": "threshold"}, row | {"verdict": "growth", "p": 0.4}])
    >>> answer(corrected(fits), draws=999).split(". ")[0]
    'Of 2 searches, 1 finds a threshold: sums at 2B (1B to 3B; p = 0.002 corrected over all 2 searches, Holm)'
    """
    n, found = len(fits), fits[fits["verdict"] == "threshold"]
    counts = fits["verdict"].value_counts()
    others = "; ".join(f"in {counts[kind]} {said}" for kind, said in _OTHERS.items() if kind in counts)
    others = f" {others[:1].upper()}{others[1:]}." if others else ""
    if not len(found):
        return f"Of {n} searches, none finds a threshold.{others}"
    listed = "; ".join(
        f"{row['task']} at {size(row['breakpoint'])} ({size(row['low'])} to {size(row['high'])}; "
        f"p = {row['p_corrected']:.2g} corrected over all {n} searches, Holm)"
        for row in found.sort_values(["p_corrected", "p"], kind="stable").head(_MOST).to_dict("records")
    )
    more = f"; and {len(found) - _MOST} more" if len(found) > _MOST else ""
    finds = "finds" if len(found) == 1 else "find"
    return f"Of {n} searches, {len(found)} {finds} a threshold: {listed}{more}.{_standing(found, n, draws)}{others}"


def _standing(found: pd.DataFrame, n: int, draws: int) -> str:
    """How many of the thresholds stand when all searches are counted, and whether any could."""
    if n < 2:
        return ""
    if n / (draws + 1) >= _ALPHA:
        return (
            f" None can stand the correction over {n} searches: with {draws} draws no corrected p is under "
            f"{n / (draws + 1):.2g}. Take --draws {round(n / _ALPHA)}, or more."
        )
    stand = int((found["p_corrected"] < _ALPHA).sum())
    return (
        f" Corrected over all {n} searches, {stand or 'none'} of them {'stands' if stand < 2 else 'stand'} (p < 0.05)."
    )
