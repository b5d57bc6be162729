"""`circuitkit sweep status`, `failures` and `table`: what a sweep's folder holds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

_SHOWN = 30


def status(folder: Path) -> None:
    """Say how many cells of a sweep are done, failed, running and left.

    Parameters
    ----------
    folder
        Folder of the sweep.
    """
    from circuitkit.studies.claims import running
    from circuitkit.studies.folder import Folder

    opened = Folder(folder)
    lists = opened.lists()
    asked = set(lists[0]) if lists else set()
    done = opened.ended("done")
    failed = opened.ended("failed") - done
    now = {key: owner for key, owner in running(opened.path / "claims").items() if key not in done}
    left = asked - done - failed - now.keys()
    ended = f"{len(asked & done)} done, {len(asked & failed)} failed"
    print(f"{len(asked)} cells: {ended}, {len(now)} running, {len(left)} left")
    for host in sorted({owner.host for owner in now.values()}):
        print(f"{sum(owner.host == host for owner in now.values())} on {host}")
    if others := (done | failed) - asked:
        print(f"{len(others)} more ended that were asked for before, by other parameters, code or versions")


def failures(folder: Path) -> None:
    """Show every failed cell with its traceback.

    Parameters
    ----------
    folder
        Folder of the sweep.
    """
    from circuitkit.studies import Sweep

    failed = Sweep.load(folder).failures
    for _, row in failed.iterrows():
        kept = row.drop(["error", "traceback", "attempt"]).dropna()
        print(", ".join(f"{name}={value}" for name, value in kept.items()))
        print(f"{row['traceback'].rstrip()}\n")
    print(f"{len(failed)} failed")


def table(folder: Path, *, csv: Path | None = None, older: Annotated[bool, Parameter(negative="")] = False) -> None:
    """Show a sweep's results, a row a cell, or write them as CSV.

    Parameters
    ----------
    folder
        Folder of the sweep.
    csv
        File for the whole table; the first rows are printed if not given.
    older
        Show what was asked for before too, by other parameters, code and versions, marked in the column `older`.
    """
    from circuitkit.studies import Sweep

    swept = Sweep.load(folder, older=older)
    if missing := swept.cells - len(swept):
        print(f"circuitkit: {missing} of {swept.cells} cells have not ended, and have no row", file=sys.stderr)
    if csv is not None:
        print(f"{len(swept)} cells in {swept.to_csv(csv)}")
        return
    print(swept.frame.head(_SHOWN).to_string(index=False))
    if len(swept) > _SHOWN:
        print(f"{len(swept)} cells, of which the first {_SHOWN} are shown; --csv FILE writes all")
