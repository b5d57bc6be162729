"""What the study says: what each method ends with, which heads appear, stay and vanish, and what goes with reward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from reports import listed

from dynamics.plans import Plan
from dynamics.study import Followed
from dynamics.tables import CURVES

HOW_SURE = (
    "Circuits are of the same share of edges at every checkpoint and on the same prompts, so that what changes is the "
    "model. Noise is how many heads would differ between two circuits of one checkpoint, found on two samples of "
    "prompts. It is no floor of what comes and goes on the same prompts, but tells how little it takes for a head to "
    "be in or out: changes from start to end count where they are so in 95 % of resamples of the prompts.",
    "p permutes blocks of neighbouring checkpoints, alike in every training: neighbours are alike anyway, and so are "
    "trainings of one start, schedule and order of examples. Levels of curves that both have a trend go together "
    "whatever drives them, so that changes from one checkpoint to the next are what counts; another seed's accuracy "
    "shows how much the trend does.",
    "Intervals over seeds are Student's; of two or three seeds they are wide, and of one there is none.",
)


def page(
    plan: Plan,
    followed: Sequence[Followed],
    methods: pd.DataFrame,
    checkpoints: pd.DataFrame,
    heads: pd.DataFrame,
    changes: pd.DataFrame,
    correlations: pd.DataFrame,
) -> str:
    """All of it in Markdown."""
    start = checkpoints[checkpoints["step"] == 0].iloc[0]
    told = [
        f"{plan.base}, {plan.warm} steps of fine-tuning, is the common start: {100 * start['accuracy']:.0f} % right "
        f"({100 * start['low']:.0f} to {100 * start['high']:.0f}), circuit of {start['edges']} edges with "
        f"{start['heads']} heads, stability {start['stability']:.2f} ({start['verdict']}).",
        f"{len(plan.seeds)} seed{'s' * (len(plan.seeds) != 1)} of each method, {plan.steps} steps, a circuit every "
        f"{plan.every}.",
    ]
    parts = ["# Training dynamics\n", listed(told), "## What each method ends with\n"]
    said = [of_method(row, heads) for row in methods.to_dict("records")]
    parts.append(listed([*said, of_changes(changes)]))
    parts += ["## Heads and accuracy\n", listed(of_correlations(correlations))]
    parts += ["## Training by training\n", listed(f"{each.run}: {each.cohorts}." for each in followed)]
    parts += ["## How sure that is\n", listed(HOW_SURE)]
    return "\n".join(parts)


def of_changes(table: pd.DataFrame) -> str:
    """How many heads are surely new or gone at the end of the trainings."""
    said = (
        f"From start to end of {len(table)} trainings {table['new'].sum()} heads are new and {table['gone'].sum()} gone"
    )
    if "surely_new" not in table:
        return f"{said}."
    known = table.dropna(subset="p")
    return (
        f"{said}; so in 95 % of resamples of the prompts are {known['surely_new'].sum():.0f} and "
        f"{known['surely_gone'].sum():.0f}. Noise alone makes {known['new_by_noise'].mean():.1f} seem new in a "
        f"training; p of as many new ones is {known['p'].min():.2g} or more."
    )


def of_method(row: dict[str, Any], heads: pd.DataFrame) -> str:
    """What a method ends with, the mean over seeds."""
    own = heads[heads["method"] == row["method"]]
    fresh = own[~own["in_base"]]
    gone = own[own["in_base"] & ~own["at_end"]]
    said = (
        f"**{row['method']}**: {_share(row, 'accuracy')} right; {_mean(row, 'heads')} heads, {_share(row, 'kept')} of "
        f"the start's kept, {_mean(row, 'new')} new ones active at the end. {_mean(row, 'turnover')} heads come or go "
        f"from one checkpoint to the next, {_mean(row, 'noise')} by other prompts alone."
    )
    if len(fresh):
        said += (
            f" New heads that ever appear: {len(fresh) / row['seeds']:.1f} a training, of which "
            f"{100 * fresh['at_end'].mean():.0f} % are there at the end; {len(gone) / row['seeds']:.1f} of the start's "
            "are not."
        )
    if "in_degree of heads" in row:
        said += (
            f" A head of the circuit has {_mean(row, 'in_degree of heads')} edges in and "
            f"{_mean(row, 'out_degree of heads')} out at the end."
        )
    return said


def _share(row: dict[str, Any], name: str) -> str:
    ends = f" ({100 * row[f'{name}_low']:.0f} to {100 * row[f'{name}_high']:.0f})"
    return f"{100 * row[name]:.0f} %{'' if np.isnan(row[f'{name}_low']) else ends}"


def _mean(row: dict[str, Any], name: str) -> str:
    ends = f" ({row[f'{name}_low']:.1f} to {row[f'{name}_high']:.1f})"
    return f"{row[name]:.1f}{'' if np.isnan(row[f'{name}_low']) else ends}"


def of_correlations(table: pd.DataFrame) -> list[str]:
    """Whether heads go with accuracy, over all trainings, and what permuting single points would have said."""
    told = []
    shown = table[(table["method"] == "all") | (table["goes_with"] == "reward")]
    for row in shown.to_dict("records"):
        if np.isnan(row["correlation"]):
            told.append(f"{_curves(row)}: one of them does not move, or has too few points.")
            continue
        other = "" if np.isnan(row["correlation_other"]) else f"; with another seed's {row['correlation_other']:+.2f}"
        told.append(
            f"{_curves(row)}: correlation {row['correlation']:+.2f}"
            f"{other}; p {row['p']:.2g} with blocks of {row['block']:.0f}, which cannot be below "
            f"{row['smallest_p']:.2g} "
            f"({row['p_corrected']:.2g} after Holm; single points would have given {row['p_points']:.2g}), "
            f"{row['trainings']} trainings."
        )
    sure = table[
        (table["method"] != "all")
        & (table["goes_with"] == "accuracy")
        & (table["of"] == "changes")
        & (table["p_corrected"] < 0.05)
    ]
    listing = "; ".join(
        f"{row['method']}, {CURVES[row['curve']]} ({row['correlation']:+.2f})" for row in sure.to_dict("records")
    )
    told.append(f"Methods whose heads and accuracy surely change together (Holm): {listing or 'none'}.")
    return [*told, *(of_power(kind, own) for kind, own in table.groupby("of", sort=False))]


def of_power(kind: object, tests: pd.DataFrame) -> str:
    """How many tests of one kind could have come out sure at all."""
    made = tests[tests["p"].notna()]
    able = int((len(made) * made["smallest_p"] < 0.05).sum()) if len(made) else 0
    return (
        f"Of {len(made)} tests of {kind} {able} could have been below 0.05 after Holm, had the curves gone together "
        f"perfectly{'' if able else ': that none is says nothing against it'}."
    )


def _curves(row: dict[str, Any]) -> str:
    whose = "" if row["method"] == "all" else f"{row['method']}: "
    return f"{whose}{CURVES[row['curve']]} and {row['goes_with']} ({row['of']})"
