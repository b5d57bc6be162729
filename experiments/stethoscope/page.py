"""The page that the study ends with: whether `o_proj` carries the reasoning, pair by pair, and what says so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd
from reports import listed

from stethoscope import verdict
from stethoscope.plans import DIRECTIONS, Pair
from stethoscope.study import INTACT

HOW_SURE = (
    "Shares have 95 % intervals (Wilson's over questions; where weights are drawn or trained anew with each seed, "
    "Student's over seeds if that is wider), effects those of a paired bootstrap over questions, margins over controls "
    "those of a bootstrap that draws questions and controls; these two, too, Student's where seeds draw weights.",
    "p is the share of controls (each of as many parameters, layer by layer) that do at least as much in the same "
    "direction, the set itself counted in; it is corrected over the sets of a pair and direction after Holm.",
    "Controls are made of the same few other modules, so that p tells how a set stands among these, in this pair, and "
    "not how rare such a module is: of seven modules that differ one does most, and any of them might by chance.",
)


def page(
    pairs: Sequence[Pair],
    merges: pd.DataFrame,
    trainings: pd.DataFrame,
    destructions: pd.DataFrame,
    deltas: Mapping[str, Iterable[str]],
    notes: Iterable[str],
) -> str:
    """All of it in Markdown: a part a pair, what Freeze says, and how sure the figures are."""
    parts = ["# Who reasons?\n", listed(summary(pairs, merges, trainings))]
    for pair in pairs:
        parts += [
            f"## {pair.name}\n",
            listed(_of_pair(pair, merges, trainings, destructions, deltas.get(pair.name, ()))),
        ]
    parts += ["## How sure that is\n", listed([*HOW_SURE, *notes])]
    return "\n".join(parts)


def summary(pairs: Sequence[Pair], merges: pd.DataFrame, trainings: pd.DataFrame) -> list[str]:
    """The answer for each pair, in a sentence each, and that of Freeze."""
    told = []
    for pair in pairs:
        found = verdict.answer(*(verdict.of_merges(merges, pair.name, direction) for direction in DIRECTIONS))
        told.append(
            f"**{pair.name}: does o_proj carry the reasoning? {found.capitalize()}**: {verdict.MEANING[found]}."
        )
    for base in [] if trainings.empty else list(dict.fromkeys(trainings["base"])):
        if (trained := verdict.of_training(trainings, base)) is not None:
            said = {"more": "teaches it surely more than", "less": "teaches it surely less than"}
            told.append(
                f"**{base}**: training o_proj {said.get(trained.status, 'does not teach it surely more than')} "
                "training as many parameters of other modules."
            )
    return told


def _of_pair(
    pair: Pair, merges: pd.DataFrame, trainings: pd.DataFrame, destructions: pd.DataFrame, deltas: Iterable[str]
) -> list[str]:
    told = list(deltas)
    for direction in DIRECTIONS:
        told += [
            verdict.of_merges(merges, pair.name, direction).said,
            verdict.singled_out(merges, pair.name, direction),
        ]
        told.append(verdict.labour(merges, pair.name, direction))
    if len(pair.b) > 1 and (trained := verdict.of_training(trainings, pair.a)) is not None:
        told.append(trained.said)
    hows = [] if destructions.empty else list(dict.fromkeys(destructions.loc[destructions["pair"] == pair.name, "how"]))
    for how in hows:
        if (found := verdict.of_destruction(destructions, pair.name, how)) is not None:
            told.append(found.said)
    told += _removed(destructions, pair.name)
    return told


def _removed(table: pd.DataFrame, pair: str) -> list[str]:
    if table.empty or not len(own := table[(table["pair"] == pair) & (table["how"] == "remove")]):
        return []
    intact = table[(table["pair"] == pair) & (table["set"] == INTACT)].iloc[0]
    listing = "; ".join(
        f"layer {row['layers']} {100 * row['accuracy']:.0f} %, fluency {row['fluency_change']:+.2f}"
        for row in own.to_dict("records")
    )
    return [f"A whole layer of B removed leaves, of {100 * intact['accuracy']:.0f} %: {listing}."]
