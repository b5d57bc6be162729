"""Heads of circuits as maps: how much each carries, which came and went with training, and which are in resamples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

import torch
from jaxtyping import Float
from torch import Tensor

from circuitkit.circuits.comparing.comparable import there
from circuitkit.report import sentences, stills
from circuitkit.report.contents import Contents
from circuitkit.report.section import Section
from circuitkit.report.sections import choices
from circuitkit.report.sections.tables import thinned

if TYPE_CHECKING:
    from circuitkit.circuits import Cohorts, Graph, HeadChanges, Stability


class HeadMeasure(TypedDict):
    """A number for each head: its name, its unit, and whether colours part at 0."""

    name: str
    unit: str
    centred: bool
    values: Any


class HeadMark(TypedDict):
    """Heads that are told apart: what they are called, the letter in their cells, and which they are."""

    name: str
    letter: str
    heads: list[list[int]]


class HeadData(TypedDict):
    """What the front end's view of heads draws (`frontend/src/views/heads.ts`): values are NaN where no head is."""

    title: str
    measures: list[HeadMeasure]
    marks: list[HeadMark]


def of_circuit(graph: Graph, stable: Stability | None, name: str) -> Section | None:
    """The heads of one circuit: their importance, and how often each is in a resample's; None without scores."""
    importance = graph.importance()
    if not bool(importance.isfinite().any()):
        return None
    unit = f" [{graph.convention.unit}]" if graph.convention.unit else ""
    of_all = f"sum of the magnitudes of the edges out of the head{unit}"
    measures = [_measure("importance", of_all, importance)]
    if stable is not None:
        measures.append(
            _measure("in resamples", "share of the resamples whose circuit has the head", stable.head_frequency)
        )
    data: HeadData = {
        "title": f"Heads of {name}",
        "measures": measures,
        "marks": [_mark("in the circuit", "●", graph.heads)],
    }
    pictures = [stills.drawn(graph.head_map(), "Importance of each head")]
    if stable is not None:
        pictures.append(stills.of_result(stable, "How often each head is in a resample's circuit"))
    return Section(
        f"heads of {name}",
        f"Heads of {name}",
        "Layers are rows. A head's importance sums up the magnitudes of all edges out of it; a dot says that it is in "
        "the circuit. Point at a head for its numbers; arrow keys go from head to head.",
        view="heads",
        data=dict(data),
        stills=tuple(pictures),
    )


def of_changes(changes: HeadChanges, stem: str) -> Section:
    """Which heads emerged, stayed and were lost, and how sure that is."""
    effects, unit = changes.effects, "effect of training: (post − base) / (post + base)"
    share = "share of all heads' importance"
    measures = [
        _measure("effect", unit, effects.values, centred=True),
        _measure(f"importance in {changes.names[0]}", share, effects.base),
        _measure(f"importance in {changes.names[1]}", share, effects.post),
    ]
    if changes.support is not None:
        often = {"emergent in resamples": changes.support.emergent, "emergent by noise alone": changes.support.by_noise}
        none = ~there(changes.base.layout)
        measures += [
            _measure(name, "share of resamples", values.double().masked_fill(none, torch.nan))
            for name, values in often.items()
        ]
    marks = [
        _mark("emergent", "E", changes.emergent),
        _mark("retained", "●", changes.retained),
        _mark("lost", "L", changes.lost),
    ]
    data: HeadData = {
        "title": f"Heads from {changes.names[0]} to {changes.names[1]}",
        "measures": measures,
        "marks": marks,
    }
    table, cut = thinned(changes.frame, f"{stem}.safetensors (.frame)")
    return Section(
        stem,
        f"Heads that emerged, stayed and were lost: {changes.names[0]} to {changes.names[1]}",
        "E: in the second circuit alone; L: in the first alone; a dot: in both. Read how often each is so in "
        "resamples, and how often noise alone would make it so, before a head is taken for emergent.",
        view="heads",
        data=dict(data),
        stills=(stills.of_result(changes, "Effect of training on each head's importance"),),
        table=table,
        notes=cut,
        says=sentences.of(changes),
    )


def of_cohorts(contents: Contents) -> Iterator[Section]:
    """Heads over a training: when each came, how many stay, and how long; those of several trainings together."""
    files = [(part, file) for part in contents.walk() for file in part.of_kind("head_cohorts")]
    maps, counts, survival = {}, {}, {}
    for (part, file), name in zip(files, choices.names_of(files, contents), strict=True):
        found: Cohorts = file.value
        maps[name] = Section(
            file.stem,
            "Heads over the training",
            "B: in the base's circuit; N: new, and active at the last checkpoint. Point at a head for the checkpoint "
            "at which it first was active, and how often it is.",
            view="heads",
            data=dict(_cohort_data(found)),
            stills=(stills.of_result(found, "How often each head is active", of="map"),),
            table=found.frame,
            says=sentences.of(found),
        )
        counts[name] = Section(
            f"cohorts of {file.stem}",
            "Cohorts of heads",
            "Active heads by the checkpoint at which they first were.",
            stills=(stills.of_result(found, "Cohorts of heads", of="cohorts"),),
            table=found.counts,
        )
        survival[name] = Section(
            f"survival of {file.stem}",
            "Survival of heads",
            "How many heads still are active so many checkpoints later.",
            stills=(stills.of_result(found, "Survival of heads", of="survival"),),
            table=found.survival,
        )
        part.used(file.path, "activation.png", "cohorts.png", "survival.png", "cohorts_frame.csv")
        part.used(*(f"cohorts_{each}.csv" for each in ("counts", "survival")))
        # A study draws and tables each under its name.
        contents.used(*(f"{what}, {file.stem}.png" for what in ("cohorts", "map", "survival")))
    for each, called in ((maps, "heads over"), (counts, "cohorts over"), (survival, "survival over")):
        if each:
            title = next(iter(each.values())).title
            yield choices.of_several(each, "Training", name=f"{called} the training", title=title)


def _cohort_data(found: Cohorts) -> HeadData:
    steps = torch.tensor([*found.steps, torch.nan], dtype=torch.float64)
    # The place −1, of heads that are not new, is that of NaN; but only heads that do not exist are missing on the map.
    first = steps[found.first].nan_to_num(0.0).masked_fill(~found.there, torch.nan)
    return {
        "title": "Heads over the training",
        "measures": [
            _measure("active", "share of checkpoints", found.frequency),
            _measure("first active", f"{found.unit}; 0: in the base, or never", first),
        ],
        "marks": [
            _mark("in the base", "B", found.base.nonzero().tolist()),
            _mark("new, active at the end", "N", found.emergent),
        ],
    }


def _measure(name: str, unit: str, values: Float[Tensor, "layer head"], *, centred: bool = False) -> HeadMeasure:
    return {"name": name, "unit": unit, "centred": centred, "values": values.double()}


def _mark(name: str, letter: str, heads: Sequence[Sequence[int]]) -> HeadMark:
    return {"name": name, "letter": letter, "heads": [list(head) for head in heads]}
