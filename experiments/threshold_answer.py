"""What all searches for a threshold found together: how many, where, and which stand when all are counted as tries."""

from __future__ import annotations

import numpy as np
import pandas as pd

from circuitkit.statistics import holm
from circuitkit.thresholds.sentences import size

_MOST = 6
"""Thresholds that are listed by name."""

_OTHERS = {
    "possible": "a threshold is possible, and no smooth curve surely predicts worse",
    "growth": "accuracy grows with size, smoothly as far as can be told",
    "flat": "accuracy cannot be shown to go with size",
}


def corrected(fits: pd.DataFrame) -> pd.DataFrame:
    """The same table with `p_corrected`: that accuracy goes with size and not smoothly, over all searches (Holm)."""
    return fits.assign(p_corrected=holm(np.maximum(fits["p"], fits["p_trend"])))


def answer(fits: pd.DataFrame) -> str:
    """The answer in a sentence or two: of a table with a row a search, as `corrected` gives it.

    >>> row = {"task": "sums", "p": 0.001, "p_trend": 0.001, "breakpoint": 2e9, "low": 1e9, "high": 3e9}
    >>> fits = pd.DataFrame([row | {"verdict": "threshold"}, row | {"verdict": "growth", "p": 0.4}])
    >>> answer(corrected(fits)).split(". ")[0]
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
        for row in found.sort_values("p_corrected", kind="stable").head(_MOST).to_dict("records")
    )
    more = f"; and {len(found) - _MOST} more" if len(found) > _MOST else ""
    return (
        f"Of {n} searches, {len(found)} {'finds' if len(found) == 1 else 'find'} a threshold: {listed}{more}.{others}"
    )
