"""Measures of several weights as if they were one, by layer and module or over all layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from circuitkit.model.roles import GROUPS, ROLES
from circuitkit.sfn.differences.verdicts import VERDICTS
from circuitkit.sfn.errors import SelectionError

PROJECTIONS = (*GROUPS["attention"], *GROUPS["mlp"])
_ORDER = {role: place for place, role in enumerate(ROLES)}


def joined(rows: pd.DataFrame, of: str) -> float:
    """One measure of all weights in some rows: exact for norms and cosines, a mean for others.

    >>> joined(pd.DataFrame({"norm": [3.0, 4.0]}), "norm")
    5.0
    """
    if len(rows) == 1:
        return float(rows[of].iloc[0])
    squares = (rows[name] ** 2 if name in rows else None for name in ("norm", "norm_a", "norm_b"))
    change, a, b = (float("nan") if each is None else float(each.sum()) for each in squares)
    if of in ("norm", "norm_a", "norm_b", "bias_norm", "step_norm"):
        return float(np.sqrt((rows[of] ** 2).sum(min_count=1)))
    if of == "combined":
        return float(np.sqrt(change) + np.sqrt((rows["bias_norm"] ** 2).sum()))
    with np.errstate(divide="ignore", invalid="ignore"):
        if of == "relative":
            return float(np.sqrt(np.float64(change) / a))
        if of == "rms":
            return float(np.sqrt(change / rows["elements"].sum()))
        if of == "cosine":
            return float((rows["cosine"] * rows["norm_a"] * rows["norm_b"]).sum() / np.sqrt(a * b))
        if of == "cosine_with_a":
            return float((rows[of] * rows["norm"] * rows["norm_a"]).sum() / np.sqrt(change * a))
    return float(rows[of].mean())


def check_measure(rows: pd.DataFrame, of: str) -> None:
    """Refuse what is no measure of a table.

    Raises:
        SelectionError: there is no such column of numbers.
    """
    measures = [
        name
        for name in rows.columns
        if pd.api.types.is_numeric_dtype(rows[name]) and name not in ("layer", "expert", "head", "step")
    ]
    if of not in measures:
        raise SelectionError(f"{of!r} was not measured; there are {', '.join(measures)}")


def shown_modules(rows: pd.DataFrame, modules: Sequence[str] | None) -> list[str]:
    """Which modules of a table are meant: those of attention and MLP if none are named, in the order of the roles.

    Raises:
        SelectionError: one is not in the table.
    """
    there = list(dict.fromkeys(rows["module"]))
    if modules is None:
        found = sorted((name for name in there if name in PROJECTIONS), key=_ORDER.__getitem__)
        return found or there
    wanted = [role for name in modules for role in GROUPS.get(name, (name,)) if role in there or name not in GROUPS]
    if missing := [name for name in wanted if name not in there]:
        raise SelectionError(f"{missing[0]!r} was not compared; compared were {', '.join(there)}")
    return wanted


def pivoted(rows: pd.DataFrame, of: str, modules: Sequence[str] | None) -> pd.DataFrame:
    """One measure, a row a layer and a column a module; NaN where a layer has none."""
    check_measure(rows, of)
    names = shown_modules(rows, modules)
    chosen = rows[rows["module"].isin(names)]
    layers = sorted(chosen["layer"].unique())
    cells = {key: joined(group, of) for key, group in chosen.groupby(["layer", "module"], sort=False)}
    values = [[cells.get((layer, name), np.nan) for name in names] for layer in layers]
    return pd.DataFrame(values, index=pd.Index(layers, name="layer"), columns=pd.Index(names, name="module"))


def over_layers(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a module, over all its layers, in the order of the roles; what has none comes last."""
    measures = ("norm", "norm_a", "norm_b", "relative", "rms", "cosine", "cosine_with_a", "combined")
    found = []
    groups = sorted(rows.groupby("module", sort=False), key=lambda each: _place(str(each[0])))
    for module, group in groups:
        row = {"module": module, "weights": len(group), "elements": int(group["elements"].sum())}
        row |= {of: joined(group, of) for of in measures}
        if "verdict" in group:
            counted = group["verdict"].value_counts()
            row |= {verdict: int(counted.get(verdict, 0)) for verdict in VERDICTS}
        found.append(row)
    return pd.DataFrame(found)


def _place(module: str) -> int:
    """Where the first of a module's roles stands among all."""
    return _ORDER.get(module.split("+")[0], len(_ORDER))
