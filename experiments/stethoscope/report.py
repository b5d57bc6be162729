"""What the study leaves: tables, figures, and the page that answers."""

from __future__ import annotations

import time

import pandas as pd
from matplotlib.figure import Figure
from reports import write_report

from circuitkit.records import provenance
from stethoscope import figures, read_levels, tables, weights
from stethoscope.page import page
from stethoscope.plans import Plan
from stethoscope.study import Running, Study


def study(plan: Plan, running: Running, started: float) -> None:
    """Run what is missing, and write tables, figures, the page and provenance."""
    whole = Study(plan, running)
    trainings = whole.trainings()
    pairs = whole.pairs(trainings)
    grafts = whole.merges(pairs)
    ruins = whole.destructions(pairs)
    deltas = whole.deltas(pairs)
    merges, ends = weights.moved(tables.merges_table(grafts), deltas), tables.ends(grafts)
    read_levels.save(read_levels.kept(whole, pairs), running.out)
    written = {
        "delta": weights.delta_table(deltas),
        "ends": ends,
        "merges": merges,
        "merge_controls": tables.controls_table(grafts, ("pair", "direction")),
    }
    drawn: dict[str, Figure] = {
        "merges": figures.merges(merges, written["merge_controls"], ends),
        "labour": figures.labour(merges, written["merge_controls"], ends),
        "levels": figures.levels(merges),
    }
    trained = destroyed = pd.DataFrame()
    if len(trainings):
        written["trainings"] = trained = tables.trainings_table(trainings)
        drawn["trainings"] = figures.trainings(trained)
    if len(ruins):
        written["destructions"] = destroyed = tables.destructions_table(ruins)
        drawn |= {
            f"destroyed {name}": figures.destructions(destroyed, name) for name in dict.fromkeys(destroyed["pair"])
        }
    for name, delta in deltas.items():
        drawn |= weights.drawn(name, delta)
    moved = {name: weights.sentences(delta) for name, delta in deltas.items()}
    said = page(pairs, merges, trained, destroyed, moved, whole.notes())
    minutes = (time.monotonic() - started) / 60
    models = ", ".join(name for pair in pairs for name in (pair.a, *pair.b))
    told = provenance(model_name=models, seed=plan.seeds[0], plan=repr(plan), minutes=round(minutes, 1))
    write_report(running.out, written, drawn, said, told, name="report.md")
    print(said, f"Tables, figures and the page are in {running.out} ({minutes:.0f} minutes).", sep="\n")
