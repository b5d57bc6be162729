"""Whether `o_proj` carries the reasoning of a pair, by what evidence, and how strong that is against the controls."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import pandas as pd

from stethoscope.study import EVERY, INTACT
from stethoscope.tables import SIGNS

Status = Literal["more", "not more", "less", "too few controls", "nothing to see"]
Answer = Literal["yes", "in part", "no", "cannot be told"]
LEVEL = 0.05
MODULE = "o_proj"


class Evidence(NamedTuple):
    """What one gadget says of a module.

    Attributes:
        status: whether it does more than as many parameters of other modules ("more": its margin's interval lies beyond
            0 and p, corrected over the sets, is below 0.05), not more, or surely less; "too few controls" where none
            does as much and p cannot be small enough all the same; "nothing to see" where not even all projections
            together do anything.
        said: in a sentence.
    """

    status: Status
    said: str


def of_merges(table: pd.DataFrame, pair: str, direction: str, module: str = MODULE) -> Evidence:
    """What grafting a module one way says."""
    own = table[(table["pair"] == pair) & (table["direction"] == direction)].set_index("set")
    row, whole, intact, sign = own.loc[module], own.loc[EVERY], own.loc[INTACT], SIGNS[direction]
    put = f"{module} of B in A" if sign > 0 else f"{module} of A back in B"
    host = "A" if sign > 0 else "B"
    if sign * _nearer(whole, "effect", sign) <= 0:
        return Evidence(
            "nothing to see",
            f"{put}: {_share(row)} right, {host} {_share(intact)}; not even all projections together change that "
            f"surely ({_share(whole)}), so that no module can be told to.",
        )
    said = (
        f"{put}: {_share(row)} right, {host} {100 * intact['accuracy']:.0f} %: {_points(row, 'effect')} points. As "
        f"many parameters of other modules do {100 * row['control_effect']:+.0f} on average (the middle 95 % of "
        f"{int(row['controls'])} draws: {100 * row['control_low']:+.0f} to {100 * row['control_high']:+.0f}); beyond "
        f"them {_points(row, 'margin')}, p = {row['p']:.2g}, {row['p_corrected']:.2g} after Holm"
    )
    if "p_rows" in row and pd.notna(row["p_rows"]):
        said += f" (random rows of all projections do {100 * row['rows_effect']:+.0f}, p = {row['p_rows']:.2g})"
    status = _status(row, sign)
    if status == "too few controls":
        said += "; none of them does as much, and they are too few to tell"
    return Evidence(status, f"{said}.")


def of_training(table: pd.DataFrame, base: str, module: str = MODULE) -> Evidence | None:
    """What training a module alone says, or None where it was not trained."""
    if table.empty or not len(own := table[(table["base"] == base) & (table["kind"] == "set")]):
        return None
    own = own.set_index("set")
    if module not in own.index or pd.isna(own.loc[module].get("margin")):
        return None
    row, always, whole = own.loc[module], own.loc["none"], own.loc["all"]
    said = (
        f"Training {module} with embedding, unembedding and norms: {_share(row)} right (seeds {row['seeds']}); those "
        f"three alone {_share(always)}, all weights {_share(whole)}. Random sets of whole matrices with as many "
        f"parameters gain {100 * row['control_effect']:+.0f} points over those three on average "
        f"({100 * row['control_low']:+.0f} to {100 * row['control_high']:+.0f}; {int(row['controls'])} sets), {module} "
        f"{_points(row, 'effect')}; beyond them {_points(row, 'margin')}, p = {row['p']:.2g}."
    )
    more = row["margin_low"] > 0 and row["p"] <= LEVEL
    status: Status = "more" if more else "less" if row["margin_high"] < 0 else "not more"
    return Evidence(status, said)


def of_destruction(table: pd.DataFrame, pair: str, how: str, module: str = MODULE) -> Evidence | None:
    """What destroying a module in all layers of B says, or None where nothing was destroyed."""
    if table.empty:
        return None
    own = table[(table["pair"] == pair) & (table["how"] == how) & (table["layers"] == "all")].set_index("set")
    if module not in own.index or pd.isna(own.loc[module].get("margin")):
        return None
    row = own.loc[module]
    said = (
        f"{module} destroyed in all layers of B ({how}): {_share(row)} right; as many parameters of other modules "
        f"leave {100 * (row['accuracy'] - row['effect'] + row['control_effect']):.0f} % on average; beyond them "
        f"{_points(row, 'margin')}, p = {row['p']:.2g}, {row['p_corrected']:.2g} after Holm. Fluency "
        f"{row['fluency_change']:+.2f} nats a token, controls {row['control_fluency_change']:+.2f}."
    )
    return Evidence(_status(row, -1), said)


def answer(into: Evidence, back: Evidence) -> Answer:
    """What grafts say together: B's module suffices in A, and B needs it, each more than other modules of its size."""
    more = [each.status == "more" for each in (into, back)]
    if all(more):
        return "yes"
    if any(more):
        return "in part"
    found = {into.status, back.status}
    return "cannot be told" if "too few controls" in found or found == {"nothing to see"} else "no"


MEANING: dict[Answer, str] = {
    "yes": "grafts of it do more than grafts of as many parameters of other modules, both ways",
    "in part": "grafts of it do more than those of as many other parameters one way alone",
    "no": "neither way do grafts of it do surely more than those of as many parameters of other modules",
    "cannot be told": "grafts of this pair do not change the accuracy surely, or controls are too few",
}


def labour(table: pd.DataFrame, pair: str, direction: str, module: str = MODULE) -> str:
    """Whether a module leaves fluency alone where others do not, as the paper's division of labour has it."""
    own = table[(table["pair"] == pair) & (table["direction"] == direction)].set_index("set")
    row = own.loc[module]
    others = "; ".join(
        f"{name} {each['fluency_change']:+.2f}" for name, each in own[own["kind"] == "set"].iterrows() if name != module
    )
    kept = "keeps fluency more than" if row["p_fluency"] < LEVEL else "is not shown to keep fluency more than"
    return (
        f"Fluency with {module} grafted {direction}: {row['fluency_change']:+.2f} nats a token "
        f"({row['fluency_low']:+.2f} to {row['fluency_high']:+.2f}); controls {row['control_fluency_change']:+.2f}. It "
        f"{kept} other modules of its size do (p = {row['p_fluency']:.2g}, not corrected); {others}."
    )


def singled_out(table: pd.DataFrame, pair: str, direction: str) -> str:
    """Which sets do surely more than as many parameters elsewhere."""
    own = table[(table["pair"] == pair) & (table["direction"] == direction) & (table["kind"] == "set")]
    sign = SIGNS[direction]
    status = pd.Series([_status(row, sign) for _, row in own.iterrows()], index=own.index)
    found = own[status == "more"].sort_values("margin", ascending=sign < 0)
    open_ = ", ".join(own.loc[status == "too few controls", "set"])
    most = own.loc[(sign * own["effect"]).idxmax()]
    told = "; ".join(f"{row['set']} ({_points(row, 'margin')} points beyond them)" for row in found.to_dict("records"))
    done = "gain" if sign > 0 else "loss"
    return (
        f"{direction[0].upper()}{direction[1:]}, sets that do surely more than as many parameters elsewhere (Holm): "
        f"{told or 'none'}{f' (too few controls to tell: {open_})' if open_ else ''}. "
        f"The largest {done} is that of {most['set']} ({_points(most, 'effect')} points)."
    )


def _status(row: pd.Series, sign: int) -> Status:
    if sign * _nearer(row, "margin", sign) > 0:
        if row["p_corrected"] < LEVEL:
            return "more"
        if row["p"] * (1 + row["controls"]) < 1.5:
            return "too few controls"
    return "less" if sign * _nearer(row, "margin", -sign) < 0 else "not more"


def _nearer(row: Any, name: str, sign: int) -> float:
    """The end of an interval that lies against a direction: its low one where a rise counts."""
    return float(row[f"{name}_low" if sign > 0 else f"{name}_high"])


def _share(row: Any) -> str:
    return f"{100 * row['accuracy']:.0f} % ({100 * row['low']:.0f} to {100 * row['high']:.0f})"


def _points(row: Any, name: str) -> str:
    return f"{100 * row[name]:+.0f} ({100 * row[f'{name}_low']:+.0f} to {100 * row[f'{name}_high']:+.0f})"
