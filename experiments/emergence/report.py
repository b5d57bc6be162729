"""What the study leaves: tables, figures, results that load again, and the page."""

from __future__ import annotations

import time
from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from reports import listed, same_plan, write_report

import circuitkit as ck
from circuitkit.circuits import GenerationEffects
from circuitkit.records import provenance
from emergence import figures, tables
from emergence.page import page
from emergence.plans import Plan
from emergence.study import Found, Running, Study


def study(plan: Plan, running: Running, started: float) -> None:
    """Run what is missing, and write tables, figures, the page and provenance."""
    same_plan(running.out, plan.told)
    whole = Study(plan, running)
    accuracies = whole.accuracies
    found = {recipe.name: whole.found(recipe) for recipe in plan.recipes}
    changes = {name: tables.changes_of(each, plan, running.progress) for name, each in found.items()}
    cohorts = {name: each for name, one in found.items() if (each := tables.cohorts_of(one)) is not None}
    overlaps = tables.overlaps_table(found)
    complexity = tables.complexity_table(found, plan, running.progress)
    patched = whole.patched(next(iter(changes.values()))) if plan.patched else pd.DataFrame()
    effects = _effects(whole, changes)
    for name, one in changes.items():
        one.save(running.out / "changes" / f"{name}.safetensors")
    for name, cohort in cohorts.items():
        cohort.save(running.out / "cohorts" / f"{name}.safetensors")
    written = {
        "accuracies": accuracies,
        "circuits": _told(found),
        "counts": tables.counts_table(changes),
        "heads": tables.heads_table(changes),
        "overlaps": overlaps,
        "complexity": complexity,
    }
    if len(patched):
        written["patched"] = patched
    for name, cohort in cohorts.items():
        written |= {f"cohorts, {name}": cohort.frame, f"turnover, {name}": cohort.turnover}
    for role, effect in effects.items():
        written |= {f"effects, {role}": effect.frame, f"failures, {role}": effect.failures()}
        if several_levels(effect):
            written |= {f"difficulty, {role}": effect.by(), f"trades, {role}": effect.trade()}
    said = page(plan, accuracies, found, changes, cohorts, overlaps, complexity, patched, effects)
    if plan.left_out:
        said += f"\n## What is left out\n\n{listed(plan.left_out)}"
    minutes = (time.monotonic() - started) / 60
    models = f"{plan.twins.base}, {plan.twins.post}"
    told = provenance(model_name=models, seed=plan.seed, plan=repr(plan), minutes=round(minutes, 1))
    drawn = _drawn(whole, changes, cohorts, overlaps, effects)
    write_report(running.out, written, drawn, said, told, name="report.md")
    print(said, f"Tables, figures and the page are in {running.out} ({minutes:.0f} minutes).", sep="\n")


def _told(found: Mapping[str, Found]) -> pd.DataFrame:
    return pd.concat([each.told.drop(columns="graph") for each in found.values()], ignore_index=True)


def _effects(whole: Study, changes: Mapping[str, ck.circuits.HeadChanges]) -> dict[str, GenerationEffects]:
    """What changing the heads of each recipe's sets does, by whose they are; a set that was met before is left out."""
    chosen = whole.plan.intervened or tuple(changes)
    sets = {}
    for name in chosen:
        for kind, heads in whole.sets(changes[name]).items():
            if heads not in sets.values():
                sets[f"{name}: {kind}"] = heads
    return {role: whole.effects(role, sets) for role in whole.plan.on} if sets else {}


def _drawn(
    whole: Study,
    changes: Mapping[str, ck.circuits.HeadChanges],
    cohorts: Mapping[str, ck.circuits.Cohorts],
    overlaps: pd.DataFrame,
    effects: Mapping[str, GenerationEffects],
) -> dict[str, Figure]:
    drawn = {"sureness": figures.sureness(changes), "overlaps": figures.overlaps(overlaps)}
    if cohorts:
        drawn["checkpoints"] = figures.checkpoints(whole.accuracies, cohorts)
    for name, each in changes.items():
        drawn |= {f"heads, {name}": _figure(each.plot("heads")), f"circuits, {name}": _figure(each.plot("circuits"))}
    for name, cohort in cohorts.items():
        drawn |= {f"{of}, {name}": _figure(cohort.plot(of)) for of in ("cohorts", "map", "survival")}
    for role, effect in effects.items():
        drawn |= {
            f"effects, {role}": _figure(effect.plot("effects")),
            f"failures, {role}": _figure(effect.plot("failures")),
        }
        if several_levels(effect):
            drawn[f"difficulty, {role}"] = _figure(effect.plot("difficulty"))
    return drawn


def several_levels(effect: GenerationEffects) -> bool:
    """Whether questions are of several levels of difficulty: not all are as hard for the intact model."""
    try:
        return effect.by()["level"].nunique() > 1
    except ck.circuits.CircuitError:
        return False


def _figure(axes: Axes) -> Figure:
    figure = axes.get_figure(root=True)
    assert isinstance(figure, Figure)
    return figure
