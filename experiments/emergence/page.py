"""The page that the study ends with: what emerged, how sure that is, and what changing those heads does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from reports import listed

import circuitkit as ck
from circuitkit.circuits import GenerationEffects
from emergence.plans import Plan
from emergence.study import Found

HOW_SURE = (
    "Emergent means: in the post-trained circuit and not in the base's. It is called sure where it is so in 95 % of "
    "resamples of the problems; p is the chance of as many emergent heads between two samples of one and the same "
    "model.",
    "Circuits of a share of the edges have as many edges in both models, so that a model that cannot do the task has a "
    "circuit too: look at its strongest score and its stability before reading what was lost.",
    "Changed heads stand beside random sets of as many heads in each layer. p against these is a rank, and cannot be "
    "below 2 / (1 + random sets); with few heads a layer there are few such sets.",
    "Where the intact model is right on all easy questions and on no hard one, any change can only lose on the easy "
    "and gain on the hard ones; a gain on hard and loss on easy questions counts beside that of the random sets alone.",
)


def page(
    plan: Plan,
    accuracies: pd.DataFrame,
    found: Mapping[str, Found],
    changes: Mapping[str, ck.circuits.HeadChanges],
    cohorts: Mapping[str, ck.circuits.Cohorts],
    overlaps: pd.DataFrame,
    complexity: pd.DataFrame,
    patched: pd.DataFrame,
    effects: Mapping[str, GenerationEffects],
) -> str:
    """All of it in Markdown: a part a recipe, what changing heads does, and how sure the figures are."""
    parts = [f"# Emergent heads: {plan.twins.name}\n", listed([of_accuracies(accuracies)])]
    for name, each in found.items():
        said = [of_circuits(each), *of_changes(changes[name])]
        if name in cohorts:
            said.append(f"Over checkpoints: {cohorts[name]}.")
        said += [of_overlap(overlaps, name), *of_complexity(complexity, name)]
        parts += [f"## {name}\n", listed(said)]
    if len(patched):
        parts += ["## Heads of one model in the other\n", listed(of_patching(patched))]
    for role, each in effects.items():
        parts += [f"## Heads changed while {role} answers\n", listed(str(each).splitlines())]
    parts += ["## How sure that is\n", listed(HOW_SURE)]
    return "\n".join(parts)


def of_accuracies(table: pd.DataFrame) -> str:
    """How often each model is right."""
    told = "; ".join(
        f"{row['model']} {100 * row['accuracy']:.0f} % ({100 * row['low']:.0f} to {100 * row['high']:.0f})"
        for row in table.to_dict("records")
    )
    return f"Right answers to {int(table['questions'].iloc[0])} questions (Wilson's 95 %): {told}."


def of_circuits(found: Found) -> str:
    """The sizes of both circuits, and how stable they are."""
    told = []
    for row in found.told[found.told["model"].isin(["base", "post"])].to_dict("records"):
        said = f"{row['model']} {row['edges']} of {row['all_edges']} edges, strongest score {row['strongest']:.3g}"
        if "stability" in row and pd.notna(row["stability"]):
            said += (
                f", stability {row['stability']:.2f} (chance {row['chance']:.2f}; with signs {row['same_sign']:.2f}: "
                f"{row['verdict']})"
            )
        told.append(said)
    recipe = found.recipe
    how = f"{recipe.method}, {recipe.steps} steps ({recipe.rule}), {recipe.metric}, {recipe.examples} over examples"
    return f"{how}, {found.pairs} pairs: {'; '.join(told)}."


def of_changes(changes: ck.circuits.HeadChanges) -> list[str]:
    """What emerged, stayed and was lost."""
    lines = str(changes).split("\n")
    return [f"{line[0].upper()}{line[1:]}." for line in lines if line]


def of_overlap(table: pd.DataFrame, recipe: str) -> str:
    """What base and post-trained circuit share."""
    own = table[(table["recipe"] == recipe) & (table["one"] == "base")]
    last = own[own["other"] == own["other"].iloc[-1]].to_dict("records")
    told = "; ".join(
        f"{row['of']} {row['both']} of {row['first']} and {row['second']}, Jaccard {row['jaccard']:.2f} (chance "
        f"{row['chance']:.2f}, p {row['p']:.2g}, {row['p_corrected']:.2g} after Holm)"
        for row in last
    )
    return f"Base and post-trained circuit share: {told}."


def of_complexity(table: pd.DataFrame, recipe: str) -> list[str]:
    """Whether heads are fewer and more complex."""
    if table.empty or not len(own := table[table["recipe"] == recipe]):
        return ["A circuit has no heads, so that none is more or less complex."]
    told = "; ".join(
        f"{row['measure'].replace('_', '-')} {row['base']:.2f} to {row['post']:.2f}{_sure(row)}"
        for row in own.to_dict("records")
    )
    return [f"Complexity of heads (means; paths as base-10 logarithms): {told}."]


def _sure(row: dict[str, Any]) -> str:
    ends = "" if pd.isna(row["low"]) else f" ({row['low']:+.2f} to {row['high']:+.2f} of change)"
    return ends if pd.isna(row["p"]) else f"{ends} p {row['p']:.2g}"


def of_patching(table: pd.DataFrame) -> list[str]:
    """Which heads carry part of the difference between both models, moved one at a time, beside other heads."""
    told = []
    for direction, own in table.groupby("direction", sort=False):
        sure = own[own["p_corrected"] < 0.05]
        listing = "; ".join(
            f"{row['set']} {row['effect']:+.2f} ({row['low']:+.2f} to {row['high']:+.2f}, other heads of its layer "
            f"{row['control_mean']:+.2f})"
            for row in sure.to_dict("records")
        )
        one = own.iloc[0]
        told.append(
            f"{direction}: the receiving model has a logit difference of {one['alone']:.2f}, the giving one "
            f"{one['giving']:.2f}; of {len(own)} heads moved one at a time, these change it surely (Holm): "
            f"{listing or 'none'}."
        )
    return told
