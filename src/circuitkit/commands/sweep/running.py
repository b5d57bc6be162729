"""`circuitkit sweep run` and `cells`: a described sweep, run, or told of before it runs."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from circuitkit.commands.loading import LoadAs
from circuitkit.commands.sweep.cluster import OnCluster, place

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

_SHOWN = 20


def run(
    source: str,
    *,
    out: Path = Path("sweep"),
    workers: int | None = None,
    shard: str | None = None,
    retry_failed: Annotated[bool, Parameter(negative="")] = False,
    on: Literal["local", "ray"] = "local",
    version: str = "",
    load_as: LoadAs | None = None,
    cluster: OnCluster | None = None,
) -> int:
    """Run a sweep's cells that are not done yet; any number of processes and machines may, in one folder.

    Parameters
    ----------
    source
        A TOML file, or MODULE:NAME or FILE.py:NAME, a list of cells in Python or a function that gives one.
    out
        Folder of the sweep: one file a cell.
    workers
        Processes that run cells, one thread each; this very process if not given, on Ray as many as have room.
    shard
        Run one part alone, such as 3/10: of ten parts the third, counted from 1.
    retry_failed
        Run the cells again that failed before.
    on
        This machine, or a Ray cluster.
    version
        What else the code depends on, in your words: another version is another cell.
    """
    # Help is told without torch.
    import torch

    from circuitkit.commands.sweep.description import described
    from circuitkit.studies import sweep

    cells = described(source, load_as)
    part = _shard(shard)
    where = place(on, workers, cluster)
    if workers is None and _all_small(cells):
        # Threads that share a tensor of some thousand numbers wait for each other for longer than they compute.
        torch.set_num_threads(1)
    # A cluster ends a job with this, and a clean stop frees its claims for other machines at once.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        # A cluster knows its workers.
        here = workers if where == "local" else None
        swept = sweep(cells, out, on=where, workers=here, retry_failed=retry_failed, shard=part, version=version)
    except KeyboardInterrupt:
        print("circuitkit: interrupted; what was finished is kept: run it again to go on", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
    failed = len(swept.failures)
    left = swept.cells - len(swept)
    told = f"{len(swept) - failed} of {swept.cells} cells are done in {out}/"
    told += f", {failed} failed" if failed else ""
    print(told + (f", {left} left to other shards" if left else ""))
    if failed:
        print(_strings(swept.failures["error"].value_counts().rename("cells").reset_index()))
        print(f"`circuitkit sweep failures {out}` has their tracebacks; --retry-failed runs them again")
    return 1 if failed else 0


def cells(source: str, *, load_as: LoadAs | None = None) -> None:
    """Say which cells a sweep has, without running any.

    Parameters
    ----------
    source
        A TOML file, or MODULE:NAME or FILE.py:NAME, a list of cells in Python or a function that gives one.
    """
    import pandas as pd

    from circuitkit.commands.sweep.description import described
    from circuitkit.studies.cells import name_cells

    named = name_cells(described(source, load_as))
    print(_strings(pd.DataFrame([each.shown for each in named[:_SHOWN]])))
    print(f"{len(named)} cells" + (f"; the first {_SHOWN} are shown" if len(named) > _SHOWN else ""))


def _all_small(cells: Sequence[Any]) -> bool:
    """Whether cells run the embedded and planted models alone."""
    from circuitkit.studies import Cell, Pretrained

    values = [value for cell in cells if isinstance(cell, Cell) for value in cell.parameters.values()]
    names = [value.name for value in values if isinstance(value, Pretrained)]
    return bool(names) and all(name.startswith(("deductor-", "planted-")) for name in names)


def _strings(frame: pd.DataFrame) -> str:
    return str(frame.to_string(index=False))


def _shard(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    number, _, of = text.partition("/")
    if not (number.isdigit() and of.isdigit()):
        raise ValueError(f"--shard {text}: a shard is written NUMBER/OF, such as 3/10")
    return int(number), int(of)
