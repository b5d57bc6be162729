"""`circuitkit report FOLDER`: a folder of results as one page that opens without a network."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def report(
    folder: Path,
    *,
    beside: Path | None = None,
    out: Path | None = None,
    open: Annotated[bool, Parameter(negative="")] = False,  # as the option is called
    progress: bool = True,
) -> None:
    """Turn a folder of results into one page: what was asked, what was found, pictures, settings, how to run it again.

    The page loads nothing from anywhere: it opens from disk, and can be sent and kept.

    Parameters
    ----------
    folder
        What another verb or an experiment wrote with --out, a sweep's folder, or one that holds several of them.
    beside
        Another such folder, to see two runs or two models side by side.
    out
        File for the page; FOLDER/report.html if not given.
    open
        Show it in the browser.
    progress
        Show a bar while it is made.
    """
    from circuitkit.report.html import visible
    from circuitkit.report.page import NAME, read

    made = read(folder, beside=beside, progress=progress)
    page = made.save(folder / NAME if out is None else out)
    for each in made.unread:
        print(f"circuitkit: not in the report: {visible(each)}", file=sys.stderr)
    print(f"{page} ({page.stat().st_size / 1e6:.1f} MB)")
    if open:
        import webbrowser

        webbrowser.open(page.resolve().as_uri())
