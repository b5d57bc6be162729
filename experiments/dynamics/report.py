"""What the study leaves: tables, figures, and the page."""

from __future__ import annotations

import time
from dataclasses import fields

from emergence.study import Running
from matplotlib.figure import Figure
from reports import same_plan, write_report

from circuitkit.records import provenance
from dynamics import figures, tables
from dynamics.page import page
from dynamics.plans import Plan
from dynamics.study import Study


def study(plan: Plan, running: Running, started: float) -> None:
    """Run what is missing, and write tables, figures, the page and provenance."""
    own = {each.name: getattr(plan, each.name) for each in fields(plan) if each.name not in ("seeds", "ways", "block")}
    same_plan(running.out, own | {f"ways, {method}": way for method, way in plan.ways.items()})
    whole = Study(plan, running)
    followed = whole.followed()
    checkpoints = tables.checkpoints_table(followed)
    heads = tables.heads_table(followed)
    changes = tables.changes_table(followed, plan.resamples)
    complexity = tables.complexity_table(followed)
    methods = tables.methods_table(checkpoints, complexity)
    correlations = tables.correlations_table(checkpoints, plan.block)
    written = {
        "checkpoints": checkpoints,
        "heads": heads,
        "changes": changes,
        "complexity": complexity,
        "methods": methods,
        "correlations": correlations,
    }
    drawn: dict[str, Figure] = {
        "curves": figures.curves(checkpoints),
        "activity": figures.activity(followed),
        "against": figures.against(checkpoints),
    }
    for each in followed:
        each.cohorts.save(running.out / "cohorts" / f"{each.run}.safetensors")
        if each.run.seed == plan.seeds[0]:
            axes = each.cohorts.plot("cohorts")
            figure = axes.get_figure(root=True)
            assert isinstance(figure, Figure)
            drawn[f"cohorts, {each.run.method}"] = figure
    said = page(plan, followed, methods, checkpoints, heads, changes, correlations)
    minutes = (time.monotonic() - started) / 60
    told = provenance(model_name=plan.base, seed=plan.seeds[0], plan=repr(plan), minutes=round(minutes, 1))
    write_report(running.out, written, drawn, said, told, name="report.md")
    print(said, f"Tables, figures and the page are in {running.out} ({minutes:.0f} minutes).", sep="\n")
