"""What every study's cells owe: that all have ended well, and verdicts in a form that a table's cell can keep."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from circuitkit.studies import Sweep


def ended_well(sweep: Sweep) -> Sweep:
    """The sweep itself, if all of its cells have ended.

    Raises:
        SystemExit: any failed; they are named, and where their tracebacks are.
    """
    if len(failures := sweep.failures):
        # A reader knows a cell by its short parameters, not by data sets.
        short = [name for name in failures if name == "error" or failures[name].astype(str).str.len().max() < 80]
        told = failures[short]
        raise SystemExit(f"{len(told)} cells failed (see {sweep.path}):\n{told.to_string(index=False)}")
    return sweep


def as_text(verdicts: Iterable[object]) -> str:
    """Verdicts as text of 0 and 1.

    >>> as_text([True, False])
    '10'
    """
    return "".join("1" if verdict else "0" for verdict in verdicts)


def bits(told: str) -> np.ndarray:
    """Verdicts that a cell keeps as text, as 0 and 1.

    >>> bits("10").tolist()
    [1.0, 0.0]
    """
    return np.array([float(each) for each in told])
