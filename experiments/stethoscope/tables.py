"""The tables of `who_reasons.py`: accuracies, effects, margins over controls, levels, lengths and fluency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from circuitkit.statistics import holm
from stethoscope.answers import Answers, effect, fluency_change, margin
from stethoscope.changing import RANDOM
from stethoscope.study import EVERY, INTACT

SIGNS = {"into A": 1, "back into B": -1}
"""Which way a module that reasons moves the accuracy: its weights in A raise it, and A's weights in B lower it."""


def merges_table(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each pair, direction and set: what grafting it does, beside as many parameters of other modules.

    `p` is against slices of other modules, `p_rows` against random rows of all; `p_corrected` is the first after Holm,
    over the sets of a pair and direction.
    """
    found = []
    for (pair, direction), part in rows.groupby(["pair", "direction"], sort=False):
        intact = Answers.of(part[part["set"] == INTACT])
        held = _held(part, intact, SIGNS[direction], random=False)
        table = pd.DataFrame([{"pair": pair, "direction": direction, **row} for row in held])
        found.append(corrected(table))
    return pd.concat(found, ignore_index=True)


def destructions_table(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each pair, way, set and layers: what is left of the accuracy; Holm over the sets of a pair and way."""
    found = []
    for pair, own in rows.groupby("pair", sort=False):
        intact = Answers.of(own[own["how"] == "none"])
        first = {"pair": pair, "how": "none", "layers": ""}
        found.append(pd.DataFrame([{**first, **_row(INTACT, "end", intact, intact, False)}]))
        for (how, layers), part in own[own["how"] != "none"].groupby(["how", "layers"], sort=False):
            held = _held(part, intact, -1, random=how in RANDOM)
            table = pd.DataFrame([{"pair": pair, "how": how, "layers": layers, **row} for row in held])
            found.append(corrected(table))
    return pd.concat(found, ignore_index=True)


def trainings_table(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each base and set that was trained: its accuracy, its gain over F1, and that beyond equal matrices.

    Effects are against F1, which trains embedding, unembedding and norms alone; "none" is that row. Controls were drawn
    for o_proj's size alone, so that margins and p are o_proj's. `rates` are the learning rates that were chosen.
    """
    found = []
    for base, own in rows.groupby("base", sort=False):
        always = Answers.of(own[own["set"] == "none"])
        drawn = [Answers.of(part) for _, part in own[own["kind"] == "control"].groupby("set", sort=False)]
        for name, part in own[own["kind"] == "set"].groupby("set", sort=False):
            row = _row(str(name), "set", always, Answers.of(part), True)
            if name == "o_proj" and drawn:
                row |= _margins(always, Answers.of(part), {"slices": drawn}, 1, True)
            told = {"base": base, "trainable": int(part["trainable"].iloc[0]), "total": int(part["total"].iloc[0])}
            rates = ", ".join(f"{rate:g}" for rate in part["rate"])
            found.append({**told, **row, "rates": rates, "validation_loss": part["validation_loss"].mean()})
        found += [
            {
                "base": base,
                "trainable": int(part["trainable"].iloc[0]),
                **_row(str(name), "control", always, Answers.of(part), True),
            }
            for name, part in own[own["kind"] == "control"].groupby("set", sort=False)
        ]
    return pd.DataFrame(found)


def corrected(table: pd.DataFrame) -> pd.DataFrame:
    """A table with `p_corrected`: Holm's over its sets that have controls."""
    if "p" not in table:
        return table
    having = table["p"].notna()
    column = pd.Series(np.nan, index=table.index)
    if having.any():
        column[having] = holm(table.loc[having, "p"])
    return table.assign(p_corrected=column)


def _held(part: pd.DataFrame, intact: Answers, sign: int, *, random: bool) -> list[dict[str, Any]]:
    """A row for each set of one pair and way, with its controls beside it."""
    found = []
    for (name, kind), own in part[part["kind"].isin(["set", "end"])].groupby(["set", "kind"], sort=False):
        answers = Answers.of(own)
        # Twins of the study's own making are trained anew with each seed.
        anew = random or len(own) > 1
        row = _row(name, kind, intact, answers, anew) | {"parameters": int(own["replaced"].iloc[0])}
        drawn = {
            control: [Answers.of(each) for _, each in rows.groupby("number", sort=False)]
            for control in ("slices", "rows")
            if len(rows := part[(part["set"] == name) & (part["kind"] == control)])
        }
        found.append(row | _margins(intact, answers, drawn, sign, anew))
    return found


def _row(name: str, kind: str, before: Answers, after: Answers, random: bool) -> dict[str, Any]:
    low, high = after.interval(random=random)
    changed, fluent = effect(before, after, random=random), fluency_change(before, after)
    return {
        "set": name,
        "kind": kind,
        "n": len(after.all),
        "accuracy": after.accuracy,
        "low": low,
        "high": high,
        "seeds": ", ".join(f"{100 * part.mean():.1f}" for part in after.right),
        "effect": changed.value,
        "effect_low": changed.low,
        "effect_high": changed.high,
        **after.level_shares(),
        "tokens": float(after.tokens.mean()),
        "truncated": after.truncated,
        "unparseable": after.unparseable,
        "fluency": float(after.fluency.mean()),
        "fluency_change": fluent.value,
        "fluency_low": fluent.low,
        "fluency_high": fluent.high,
    }


def _margins(
    before: Answers, after: Answers, drawn: Mapping[str, Sequence[Answers]], sign: int, random: bool
) -> dict[str, Any]:
    row: dict[str, Any] = {}
    if slices := drawn.get("slices"):
        found = margin(before, after, slices, sign, random=random)
        row |= {
            "controls": found.n,
            "control_effect": found.mean,
            "control_low": found.low_of_controls,
            "control_high": found.high_of_controls,
            "margin": found.value,
            "margin_low": found.low,
            "margin_high": found.high,
            "p": found.p,
            **_fluency_beside(before, after, slices),
        }
    if rows := drawn.get("rows"):
        found = margin(before, after, rows, sign, random=random)
        row |= {"rows_effect": found.mean, "rows_margin": found.value, "p_rows": found.p}
    return row


def _fluency_beside(before: Answers, after: Answers, controls: Sequence[Answers]) -> dict[str, float]:
    """Controls' change of fluency, and the chance that one of them keeps at least as much as the set."""
    changes = np.array([float((each.fluency - before.fluency).mean()) for each in controls])
    own = float((after.fluency - before.fluency).mean())
    return {
        "control_fluency_change": float(changes.mean()),
        "p_fluency": (1 + int((changes >= own - 1e-9).sum())) / (1 + len(changes)),
    }


def controls_table(rows: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """A row for every draw of every control: its effect on accuracy and fluency."""
    found = []
    kept = rows[rows["kind"].isin(["slices", "rows"])]
    for names, part in kept.groupby([*keys, "set", "kind", "number"], sort=False):
        answers = Answers.of(part)
        told = dict(zip([*keys, "set", "kind", "number"], names, strict=True))
        found.append(told | {"accuracy": answers.accuracy, "fluency": float(answers.fluency.mean())})
    return pd.DataFrame(found)


def ends(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a pair: the accuracies and fluencies of A and B, and of each with all of the other's projections."""
    found = []
    for pair, own in rows.groupby("pair", sort=False):
        row: dict[str, Any] = {"pair": pair}
        for direction, part in own.groupby("direction", sort=False):
            host = "A" if direction == "into A" else "B"
            for name, told in ((INTACT, host), (EVERY, f"{host} with the other's projections")):
                answers = Answers.of(part[part["set"] == name])
                row |= {told: answers.accuracy, f"{told}, fluency": float(answers.fluency.mean())}
        found.append(row)
    return pd.DataFrame(found)
