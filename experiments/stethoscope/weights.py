"""Delta: how far each module's weights moved, where o_proj stands by each measure, and whether changes have humps."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

import circuitkit as ck
from circuitkit.model.roles import GROUPS
from circuitkit.sfn import Delta
from stethoscope.cells import Cell
from stethoscope.changing import Weights
from stethoscope.modules import PROJECTIONS

MEASURES = {
    "norm": "norm of the change, as in the paper",
    "relative": "the same relative to the norm of A's weights",
    "rms": "the same per square root of elements",
}
VERDICTS = ("unimodal", "rounding", "small weights", "sign-like", "sizes alone", "bimodal", "other modes", "too few")


def compared(a: Weights, b: Weights, path: str) -> Cell:
    """Compare two checkpoints module by module, and keep all that is found in a file."""
    there = [role for role in PROJECTIONS if any(role in part.roles for part in ck.sfn.Checkpoint.open(a.name).parts)]
    found = ck.sfn.delta(a.name, b.name, there, revision_a=a.revision, revision_b=b.revision, progress=False)
    return {"kept": str(found.save(Path(path)))}


def delta_table(deltas: dict[str, Delta]) -> pd.DataFrame:
    """A row for each pair and module, over all layers."""
    return pd.concat([delta.by_module().assign(pair=pair) for pair, delta in deltas.items()], ignore_index=True)


def moved(merges: pd.DataFrame, deltas: dict[str, Delta]) -> pd.DataFrame:
    """A table of grafts with `moved`, the set's share of the squared change of all projections."""
    squares = {pair: delta.by_module().set_index("module")["norm"] ** 2 for pair, delta in deltas.items()}
    grouped = {"q, k, v": ("q_proj", "k_proj", "v_proj"), "mlp": GROUPS["mlp"]}
    shares = [
        float(
            squares[row["pair"]].reindex(list(grouped.get(row["set"], (row["set"],)))).sum()
            / squares[row["pair"]].sum()
        )
        if row["kind"] == "set"
        else float("nan")
        for row in merges.to_dict("records")
    ]
    return merges.assign(moved=shares)


def drawn(pair: str, delta: Delta) -> dict[str, Figure]:
    """The heat map of norms, as in the paper and relative to A's, and the histograms beside their controls."""
    return {
        f"delta {pair}, norms": _figure(delta, "heatmap", "combined"),
        f"delta {pair}, relative": _figure(delta, "heatmap", "relative"),
        f"delta {pair}, histograms": _figure(delta, "histograms", None),
    }


def _figure(delta: Delta, kind: str, of: str | None) -> Figure:
    figure = delta.plot(kind, of=of).figure  # type: ignore[arg-type]  # one of its kinds
    assert isinstance(figure, Figure)
    return figure


def sentences(delta: Delta) -> list[str]:
    """Where o_proj stands among the modules by each measure, and what the histograms are found to be."""
    table = delta.by_module().set_index("module")
    if "o_proj" not in table.index:
        return []
    told = []
    for measure, said in MEASURES.items():
        ranked = table[measure].sort_values(ascending=False)
        listed = ", ".join(f"{name} {value:.3g}" for name, value in ranked.items())
        told.append(f"{said} (o_proj is {_place(list(ranked.index).index('o_proj'))} of {len(ranked)}: {listed})")
    found = {
        name: ", ".join(f"{verdict} in {int(row[verdict])}" for verdict in VERDICTS if row.get(verdict, 0))
        for name, row in table.iterrows()
    }
    shapes = "; ".join(f"{name}: {said}" for name, said in found.items())
    return [
        f"Delta, over all layers: {'; '.join(told)}.",
        f"Histograms of relative change, layers by what explains their shape beside controls: {shapes}.",
    ]


def _place(index: int) -> str:
    return ("first", "second", "third")[index] if index < 3 else f"{index + 1}th"
