"""What changing heads did to a model's answers, in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from circuitkit.circuits.errors import CircuitError

if TYPE_CHECKING:
    from circuitkit.circuits.comparing.generation_outcome import GenerationEffects

Row = dict[str, Any]
_SURE = 0.05


def sentences(found: GenerationEffects) -> list[str]:
    """What was asked, what each change did beside random sets, what it did by difficulty, and how answers failed."""
    asked, each = len(found.items), found.answers
    opening = (
        f"{found.model} on {found.task}: {asked:,} question{'s' * (asked != 1)}"
        f"{f', {each} answers to each' if each > 1 else ''}; with no head changed {_share(found.intact.right.mean())} "
        f"right (by {found.judge})."
    )
    try:
        by_difficulty = _traded(found.trade())
    except CircuitError as error:
        by_difficulty = f"By difficulty nothing can be told: {error}."
    return [opening, *map(_effect, _rows(found.frame)), by_difficulty, _failures(found.failures())]


def _rows(table: pd.DataFrame) -> list[Row]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _effect(row: Row) -> str:
    said = (
        f"{row['set']} ({row['heads']} head{'s' * (row['heads'] != 1)}), {row['way']}: {_share(row['after'])} right, "
        f"{_points(row, 'effect', 'low', 'high')}, {_p(row, 'p')}."
    )
    n = row["controls"]
    if not n:
        return f"{said} No other heads match them, so nothing tells whether any heads of these layers would do as much."
    beside = (
        f"{said} {n} random set{'s' * (n != 1)} in {'its' if n == 1 else 'their'} place: "
        f"{_points(row, 'control_effect', 'control_low', 'control_high')}; beyond {'it' if n == 1 else 'them'} "
        f"{_points(row, 'margin', 'margin_low', 'margin_high')}"
    )
    least = 2 / (1 + n)
    if least > _SURE:
        return f"{beside}. Of so few no p under {min(1.0, least):.2g} can come; it is {row['p_controls']:.2g}."
    return f"{beside}, {_p(row, 'p_controls')}."


def _traded(table: pd.DataFrame) -> str:
    rows = _rows(table)
    said = [_trade(row) for row in rows if row["trades"]]
    if not said:
        said = ["Nothing surely gains on the hardest questions and loses on the easiest, or the other way round."]
    most = max(rows, key=lambda row: abs(row["difference"]))
    random = f"random sets {100 * most['control_difference']:+.0f}, p {most['p_controls']:.2g}"
    beside = f" ({random})" if most["controls"] else ""
    return (
        f"{' '.join(said)} Hardest and easiest differ most under {most['set']}, {most['way']}: "
        f"{100 * most['difference']:+.0f} points{beside}."
    )


def _trade(row: Row) -> str:
    # What is taken away by an ablation is what the heads do; what is amplified is the same with its own sign.
    amplified = row["way"].startswith("x") and float(row["way"][1:]) > 1
    for_hard = (row["on_hardest"] > 0) == amplified
    what = "hard questions and harm easy ones (over-thinking)" if for_hard else "easy questions and harm hard ones"
    beside = f"; against random sets p {row['p_controls']:.2g}" if row["controls"] else ""
    return (
        f"{row['set']}, {row['way']}: {100 * row['on_hardest']:+.0f} points on the hardest questions "
        f"({row['hardest']}) and {100 * row['on_easiest']:+.0f} on the easiest ({row['easiest']}){beside}: these heads "
        f"help {what}."
    )


def _failures(table: pd.DataFrame) -> str:
    moved = table[(table["outcome"] != "right") & (table["p_corrected"] < _SURE)]
    listing = "; ".join(
        f"{row['set']}, {row['way']}: {row['outcome']} {100 * row['before']:.0f} to {_share(row['after'])}"
        + (f" (random sets {_share(row['before'] + row['control_effect'])})" if row["controls"] else "")
        for row in _rows(moved)
    )
    return f"Failures that become surely more or fewer (Holm): {listing or 'none'}."


def _share(value: float) -> str:
    return f"{100 * value:.0f} %"


def _points(row: Row, *names: str) -> str:
    value, low, high = (100 * row[name] for name in names)
    ends = "" if np.isnan(low) else f" ({low:+.0f} to {high:+.0f})"
    return f"{value:+.0f} points{ends}"


def _p(row: Row, name: str) -> str:
    if np.isnan(row[name]):
        return "too few questions for a p"
    return f"p {row[name]:.2g}, {row[f'{name}_corrected']:.2g} after Holm"
