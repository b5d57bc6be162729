"""What the gadgets that write checkpoints say."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from circuitkit.sfn.destructions.destruction import Destroyed
    from circuitkit.sfn.differences.outcome import Delta, Kind
    from circuitkit.sfn.merges.merging import Merged

_SHOWN = 16
_COLUMNS = (
    "tensor",
    "module",
    "layer",
    "expert",
    "head",
    "elements",
    "chosen",
    "bytes",
    "changed",
    "norm_before",
    "norm_change",
    "cosine",
    "rounded",
)
_DRY = "nothing is written: this was a dry run"
_LEFT_OUT = ("norm_b", "cosine_with_a", "combined")


def tell_changes(done: Merged | Destroyed) -> None:
    """Print what a gadget changed, or would change, tensor by tensor, and where it is."""
    print(done.summary)
    if len(done.frame):
        print(_shown(done.frame))
    if done.folder is None:
        print(f"{done.bytes_changed:,} bytes would change, of {done.bytes_written:,} of weights that would be written")
        print(_DRY)
    else:
        print(f"written to {done.folder}/; its manifest.json has every changed tensor with hashes and norms")


def tell_plugin(plan: pd.DataFrame, file: Path) -> None:
    """Print what a plug-in would hold, tensor by tensor."""
    print(_shown(plan))
    print(f"{file} would hold {len(plan)} tensor{'s' * (len(plan) != 1)}, {plan['bytes'].sum():,} bytes of weights")
    print(_DRY)


def _shown(frame: pd.DataFrame) -> str:
    """The columns that say something, of the first rows."""
    columns = [name for name in _COLUMNS if name in frame and frame[name].notna().any()]
    rows = frame[columns].head(_SHOWN)
    table = rows.to_string(index=False, na_rep="", float_format="{:.4g}".format)
    left = len(frame) - len(rows)
    return table if not left else f"{table}\n… and {left} more"


def check_folder(out: Path) -> None:
    """Refuse a place where no folder can be written into, before anything is computed for it.

    Raises:
        ValueError: it is a file, lies in one, or may not be written to.

    >>> check_folder(Path("not/there"))
    """
    there = next(place for place in (out, *out.absolute().parents) if place.exists() or place.is_symlink())
    if not there.is_dir():
        raise ValueError(f"--out {out}: {there} is a file, and a folder is written: name another place")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"--out {out}: {there} may not be written to: name another place")


def write_delta(found: Delta, out: Path) -> None:
    """Write what a comparison found, its tables, figures and provenance, into a folder, in place of an earlier's."""
    from circuitkit import plots
    from circuitkit.writing import write_json, write_table

    out.mkdir(parents=True, exist_ok=True)
    several = len(found.checkpoints) > 1
    every = {"modules": found.frame, "heads": found.heads, "trajectory": found.trajectory}
    tables = {name: table for name, table in every.items() if len(table) and (several or name != "trajectory")}
    figures = _figures(found)
    drawn = (f"{name}.{suffix}" for name in figures for suffix in ("png", "svg"))
    for stale in (*(f"{name}.csv" for name in every), *drawn):
        (out / stale).unlink(missing_ok=True)
    found.save(out)
    for name, table in tables.items():
        write_table(out / f"{name}.csv", table)
    for kind in (kind for kind, there in figures.items() if there):
        plots.save(found.plot(kind), out / f"{kind}.png")
    write_json(out / "provenance.json", found.provenance)


def _figures(found: Delta) -> dict[Kind, bool]:
    """What can be drawn of a comparison, and what cannot; not all modules lie in layers or have heads."""
    layered = bool((found.frame["layer"] >= 0).any())
    return {
        "heatmap": layered,
        "histograms": bool(found.histograms) and layered,
        "heads": len(found.heads) > 0,
        "trajectory": len(found.checkpoints) > 1,
    }


def tell_delta(found: Delta, out: Path) -> None:
    """Print how far each module moved, over its layers, and where all is; of several checkpoints, by step too."""
    print(found)
    if len(found.checkpoints) > 1:
        print(f"norm of B − {found.a} over all layers, by step:")
        print(_by_step(found).to_string(float_format="{:.4g}".format, na_rep=""))
        print(f"the last of {len(found.checkpoints)} checkpoints, {found.checkpoints[-1]}:")
    table = found.by_module()
    # Verdicts are counts; those that no module got say nothing.
    verdicts = {*found.frame["verdict"]} if "verdict" in found.frame else set()
    counted = [name for name in table.select_dtypes("integer") if name not in verdicts | {"weights", "elements"}]
    shown = table.drop(columns=[*_LEFT_OUT, *counted], errors="ignore")
    print(shown.to_string(index=False, float_format="{:.4g}".format, na_rep=""))
    print(f"norms are of B − A over all layers; layers, heads, histograms and figures are in {out}/")


def _by_step(found: Delta) -> pd.DataFrame:
    """How far each module is from A, a row a checkpoint and a column a module that has a role."""
    from circuitkit.model.roles import ROLES

    squares = found.trajectory.assign(square=found.trajectory["norm"] ** 2)
    sums = squares.groupby(["step", "checkpoint", "module"], sort=False)["square"].sum()
    modules = [str(name) for name in found.by_module()["module"]]
    with_role = [name for name in modules if set(name.split("+")) <= set(ROLES)]
    table: pd.DataFrame = (sums**0.5).unstack("module").reindex(columns=with_role or modules)
    return table.rename_axis(columns=None).reset_index().set_index("step")
