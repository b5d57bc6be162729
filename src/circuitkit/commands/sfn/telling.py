"""What the gadgets that write checkpoints say."""

from __future__ import annotations

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
    "changed",
    "norm_before",
    "norm_change",
    "cosine",
    "rounded",
)
_LEFT_OUT = ("norm_b", "cosine_with_a", "combined")


def tell_changes(done: Merged | Destroyed) -> None:
    """Print what a gadget changed, or would change, tensor by tensor, and where it is."""
    print(done.summary)
    if len(done.frame):
        print(_shown(done.frame))
    if done.folder is None:
        print("nothing is written: this was a dry run")
    else:
        print(f"written to {done.folder}/; its manifest.json has every changed tensor with hashes and norms")


def _shown(frame: pd.DataFrame) -> str:
    """The columns that say something, of the first rows."""
    columns = [name for name in _COLUMNS if name in frame and frame[name].notna().any()]
    rows = frame[columns].head(_SHOWN)
    table = rows.to_string(index=False, na_rep="", float_format="{:.4g}".format)
    left = len(frame) - len(rows)
    return table if not left else f"{table}\n… and {left} more"


def write_delta(found: Delta, out: Path) -> None:
    """Write what a comparison found, its tables, figures and provenance, into a folder."""
    from circuitkit import plots
    from circuitkit.writing import write_json, write_table

    out.mkdir(parents=True, exist_ok=True)
    found.save(out)
    several = len(found.checkpoints) > 1
    tables = {"modules": found.frame, "heads": found.heads} | ({"trajectory": found.trajectory} if several else {})
    for name, table in tables.items():
        if len(table):
            write_table(out / f"{name}.csv", table)
    for name in _figures(found):
        plots.save(found.plot(name), out / f"{name}.png")
    write_json(out / "provenance.json", found.provenance)


def _figures(found: Delta) -> list[Kind]:
    """What can be drawn of a comparison; not all modules lie in layers or have heads."""
    layered = bool((found.frame["layer"] >= 0).any())
    wanted: dict[Kind, bool] = {
        "heatmap": layered,
        "histograms": bool(found.histograms) and layered,
        "heads": len(found.heads) > 0,
        "trajectory": len(found.checkpoints) > 1,
    }
    return [name for name, there in wanted.items() if there]


def tell_delta(found: Delta, out: Path) -> None:
    """Print how far each module moved, over its layers, and where all is."""
    print(found)
    table = found.by_module()
    # Verdicts are counts; those that no module got say nothing.
    verdicts = {*found.frame["verdict"]} if "verdict" in found.frame else set()
    counted = [name for name in table.select_dtypes("integer") if name not in verdicts | {"weights", "elements"}]
    shown = table.drop(columns=[*_LEFT_OUT, *counted], errors="ignore")
    print(shown.to_string(index=False, float_format="{:.4g}".format, na_rep=""))
    print(f"norms are of B − A over all layers; layers, heads, histograms and figures are in {out}/")
