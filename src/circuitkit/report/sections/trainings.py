"""Trainings of a folder and of those in it: what each one chose, in one table, and the curves of the first few."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pandas as pd

from circuitkit.report import sentences, stills
from circuitkit.report.contents import Contents, File
from circuitkit.report.section import Section
from circuitkit.report.sections.tables import thinned

if TYPE_CHECKING:
    from circuitkit.training.outcome import Trained

MOST_DRAWN = 6
"""How many trainings' curves are drawn."""


def sections(contents: Contents) -> Iterator[Section]:
    """One section for all trainings that are left, here and in the folders below."""
    found = [(part, file) for part in contents.walk() for file in part.of_kind("training")]
    if not found:
        return
    names = [part.name.removeprefix(contents.name).strip("/") or part.name for part, _ in found]
    shown = found[:MOST_DRAWN]
    notes = []
    if len(found) > len(shown):
        notes.append(f"The curves of {len(shown)} of {len(found)} trainings are drawn; the table has all of them.")
    whole = [_row(name, file.value) for name, (_, file) in zip(names, found, strict=True)]
    frame = found[0][1].value.curve if len(found) == 1 else pd.DataFrame(whole).dropna(axis="columns", how="all")
    table, cut = thinned(frame, "each training's folder")
    yield Section(
        "trainings",
        "Training" if len(found) == 1 else "Trainings",
        "Loss by step, in nats a token, with the step that was chosen." if len(found) == 1 else _CAPTION,
        stills=tuple(
            stills.of_result(file.value, f"Curves of {name}") for name, (_, file) in zip(names, shown, strict=False)
        ),
        table=table,
        notes=(*notes, *cut),
        says=_said([file for _, file in found]),
    )
    for part, file in found:
        part.used(file.path)


_CAPTION = "A row a training: what it trained on, and the step that was chosen, with what was measured there."


def _row(name: str, trained: Trained) -> dict[str, Any]:
    chosen = trained.curve[trained.curve["step"] == trained.chosen]
    measured = {
        str(column): chosen[column].iloc[-1]
        for column in chosen
        if len(chosen) and column not in ("step", "epoch", "loss", "learning_rate")
    }
    return {
        "training": name,
        "model": trained.provenance.get("model"),
        "method": trained.recipe.method,
        "examples": trained.examples.get("n"),
        "seed": trained.recipe.seed,
        "learning_rate": trained.recipe.learning_rate,
        "trainable": trained.trainable,
        "total": trained.total,
        "chosen": trained.chosen,
        "rule": trained.rule,
        **measured,
    }


def _said(files: list[File]) -> tuple[str, ...]:
    """What each training says, or of very many how many there are."""
    if len(files) <= MOST_DRAWN:
        return tuple(sentence for file in files for sentence in sentences.of(file.value))
    models = {str(file.value.provenance.get("model")) for file in files}
    n = len(models)
    return (f"{len(files)} trainings of {n} model{'s' * (n != 1)} have ended; the table has all of them.",)
