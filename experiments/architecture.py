"""Is OpenELM's weak reasoning due to its architecture or to its data? (Hsiao & Dutta 2025 leave it open.)

- `architecture.py --out FOLDER` trains decoders of four architectures here;
- `architecture.py --out FOLDER --published` compares the papers' models of 1.1 to 1.7 billion parameters;
- `architecture.py --out FOLDER --models ID --models ID` compares models that you name, asked anew.

The first trains toys of equal size (Llama, GPT-2, Gemma 2, and one with OpenELM's heads and widths that grow from layer
to layer) on three amounts of deductions with three seeds, so that architecture and data come apart. The others compare
families of one size, in which they don't. Every way writes tables (CSV), figures (PNG, SVG), an answer in plain
sentences (`answer.md`) and where it all comes from (`provenance.json`). Run again, it goes on where it stopped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import answers_to_read
import cyclopts
import pandas as pd
import torch
from cyclopts import Parameter
from decoders.analysis import Outcome, architecture_contrasts, data_contrasts, variance_shares, varies
from decoders.answers import by_kind, by_model, exam
from decoders.families import (
    BAND,
    CHANCE,
    HARDEST,
    PROOFS,
    asked,
    between_families,
    pairs,
    published,
    sentences,
    titles,
)
from decoders.families import with_intervals as with_family_intervals
from decoders.figures import families as families_figure
from decoders.figures import kinds, learning, loss_curves, variance
from decoders.findings import (
    said_in_short,
    said_of_architecture,
    said_of_data,
    said_of_design,
    said_of_rates,
    said_of_variance,
)
from decoders.study import QUICK, Plan, Running, judge, saved, train, tune
from decoders.training import questions_hash
from matplotlib.figure import Figure
from torch import Tensor
from transformers.utils import logging

from circuitkit import plots
from circuitkit.records import provenance, whole_file
from circuitkit.studies import Cell, Pretrained, Sweep

app = cyclopts.App(help=__doc__)

OUTCOMES: tuple[Outcome, ...] = ("headline", "strict", "validation_loss")
DRAWS = 2000


def write(
    out: Path,
    tables: Mapping[str, pd.DataFrame],
    figures: Mapping[str, Figure],
    answer: Sequence[str],
    told: Mapping[str, Any],
) -> None:
    """Write tables, figures, the answer and the provenance into a folder, each whole or not at all."""
    for name, table in tables.items():
        with whole_file(out / f"{name}.csv") as beside:
            table.to_csv(beside, index=False)
    for name, figure in figures.items():
        plots.save(figure, out / f"{name}.png")
    with whole_file(out / "answer.md") as beside:
        beside.write_text("".join(f"- {sentence}\n" for sentence in answer), encoding="utf-8")
    with whole_file(out / "provenance.json") as beside:
        beside.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    print("\n".join(answer), f"\nTables, figures and provenance are in {out}.", sep="\n", flush=True)


def toys(plan: Plan, running: Running) -> None:
    """Train decoders, judge their proofs, and tell architecture and data apart."""
    tuning = tune(plan, running)
    rates = dict(tuning.loc[tuning["chosen"], ["architecture", "learning_rate"]].itertuples(index=False))
    models, found = train(plan, rates, running)
    files = saved(plan, models, found, running.out / "models")
    answers = judge(plan, files, running)
    shown = {path.parent.name: str(path.parent) for path in files if path.parent.name.endswith(f"seed{plan.seeds[0]}")}
    answers_to_read.keep(shown, exam(plan.each), running.out, each=1)
    models = by_model(models, answers)
    outcomes = [what for what in OUTCOMES if varies(models, what)]
    shares = {what: variance_shares(models, what, draws=DRAWS) for what in outcomes}
    between = {what: architecture_contrasts(models, what) for what in outcomes}
    more = {what: data_contrasts(models, what) for what in outcomes}
    curves, apart = losses(models, found), by_kind(models, answers)
    answer = [
        *(said_in_short(what, shares[what], between[what]) for what in outcomes[:1]),
        said_of_design(plan, models),
        said_of_rates(plan, tuning),
        *(
            f"All models have the same {what} value, so there is nothing to tell apart."
            for what in OUTCOMES
            if what not in outcomes
        ),
        *(said_of_variance(what, shares[what]) for what in outcomes),
        *(sentence for what in outcomes for sentence in said_of_architecture(what, between[what])),
        *(said_of_data(what, more[what]) for what in outcomes),
        "These are toys that know nothing but deductions: what holds of them need not hold at a billion parameters.",
    ]
    write(
        running.out,
        {
            "tuning": tuning,
            "models": models,
            "by_kind": apart,
            "variance": _stacked(shares),
            "architecture_contrasts": _stacked(between),
            "data_contrasts": _stacked(more),
            "losses": curves,
        },
        {
            "learning": learning(models),
            "variance": variance(shares),
            "losses": loss_curves(curves),
            "kinds": kinds(apart),
        },
        answer,
        provenance(
            model_name=", ".join(plan.architectures), seed=0, plan=asdict(plan), questions_sha256=questions_hash()
        ),
    )


def losses(models: pd.DataFrame, found: Sweep, every: int = 25) -> pd.DataFrame:
    """Give every training's loss, the mean of some steps each, in nats a token of the proofs."""
    tables = []
    for row, model in enumerate(models.to_dict("records")):
        steps = found.value(row, "losses")
        assert isinstance(steps, Tensor)  # as `trained` returns them
        parts = steps.split(every)
        ends = torch.tensor([len(part) for part in parts]).cumsum(0)
        named = {name: model[name] for name in ("architecture", "questions", "seed")}
        tables.append(pd.DataFrame({"step": ends, "loss": [part.mean().item() for part in parts]}).assign(**named))
    return pd.concat(tables, ignore_index=True)


def _stacked(tables: Mapping[Outcome, pd.DataFrame]) -> pd.DataFrame:
    return pd.concat([table.assign(outcome=what) for what, table in tables.items()], ignore_index=True)


def of_one_size(rows: pd.DataFrame, out: Path, source: str, **told: Any) -> None:
    """Compare families of one size and write what they show."""
    shown = [task for task in ("CommonsenseQA", PROOFS, HARDEST, *rows["task"]) if (rows["task"] == task).any()]
    panels = [(task.replace("_", " "), rows[rows["task"] == task], CHANCE.get(task)) for task in dict.fromkeys(shown)]
    whole = [panel for panel in panels if len(panel[1]) == rows["model"].nunique()][:3]
    write(
        out,
        {"families": rows, "between_families": between_families(rows), "pairs": pairs(rows)},
        {"families": families_figure(whole, source)} if whole else {},
        [source, *sentences(rows)],
        provenance(model_name=", ".join(dict.fromkeys(rows["model"])), **told),
    )


def asked_anew(
    models: Sequence[Pretrained],
    families: Sequence[str] | None,
    names: Sequence[str],
    running: Running,
    **settings: Any,
) -> pd.DataFrame:
    """Ask every model every task, a cell each."""
    if families is not None and len(families) != len(models):
        raise SystemExit(f"{len(families)} families are named for {len(models)} models: name one for each")
    cells = [
        # A task's file counts by what is in it, a name by itself.
        Cell(asked, {"model": model, "name": model.name, "title": title, "task": _named(task), **settings})
        for model in models
        for title, task in titles(names).items()
    ]
    frame = running.sweep(cells, "answers", "")
    rows = frame.frame.drop(columns=["task", "model"]).rename(columns={"name": "model", "title": "task"})
    if families is not None:
        rows["family"] = rows["model"].map(dict(zip([model.name for model in models], families, strict=True)))
    return with_family_intervals(rows)


def _named(task: str) -> str | Path:
    return Path(task) if Path(task).is_file() else task


@app.default
def main(
    *,
    out: Path,
    models: Annotated[list[str] | None, Parameter(negative="")] = None,
    published_tables: Annotated[bool, Parameter(name="--published", negative="")] = False,
    quick: Annotated[bool, Parameter(negative="")] = False,
    workers: int = 1,
    steps: int | None = None,
    questions: Annotated[tuple[int, ...] | None, Parameter(negative="")] = None,
    seeds: Annotated[tuple[int, ...] | None, Parameter(negative="")] = None,
    families: Annotated[list[str] | None, Parameter(negative="")] = None,
    tasks: Annotated[tuple[str, ...], Parameter(negative="")] = ("prontoqa", "csqa"),
    proofs: int = 100,
    limit: int | None = None,
    decoding: str = "clean",
    smallest: float = BAND[0],
    largest: float = BAND[1],
    dtype: str | None = None,
    device_map: str | None = None,
    trust_remote_code: Annotated[bool, Parameter(negative="")] = False,
    progress: bool = True,
) -> None:
    """Tell architecture and data apart, or compare families of one size.

    Parameters
    ----------
    out
        Folder that receives everything; the same call goes on there where it stopped.
    models
        Hub ids or folders of models to ask instead of training toys; given once for each.
    published_tables
        Compare the papers' models of this size instead, from the tables in experiments/published.
    quick
        A study of seconds whose models know nothing, to see that it runs.
    workers
        Processes that run cells, one thread each. The default study takes about an hour of one core.
    steps
        Steps of every training, 1,000 if not given.
    questions
        Amounts of data, in distinct questions: 1,000, 4,000 and 16,000 if not given.
    seeds
        Seeds of weights, questions and their order: 0, 1 and 2 if not given.
    families
        Of the models, one for each; told from their names if not given.
    tasks
        For models: "prontoqa" (six rules of one hop) or a name or path that `circuitkit.tasks.load` takes.
    proofs
        For models: questions of each rule.
    limit
        For models: the first questions of each task alone.
    decoding
        For models: "clean" (greedy), or "paper" (as the paper ran it).
    smallest
        For models: the least size that is compared, in billions of parameters with one decimal.
    largest
        For models: the largest size that is compared, likewise.
    dtype
        For models: as in transformers, such as bfloat16.
    device_map
        For models: as in transformers, such as cuda or auto.
    trust_remote_code
        For models: run the code that comes with them, as OpenELM's.
    progress
        Show bars.
    """
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    running = Running(out, workers, progress)
    if published_tables:
        rows = published()
        of_one_size(rows, out, "Published models of 1.1 to 1.7 billion parameters, as the paper's tables print them.")
    elif models:
        settings = {"trust_remote_code": True} if trust_remote_code else {}
        named = [Pretrained(name, dtype=dtype, device_map=device_map, settings=settings) for name in models]
        asking = {"proofs": proofs, "decoding": decoding, "limit": limit, "smallest": smallest, "largest": largest}
        rows = asked_anew(named, families, tasks, running, **asking)
        source = f"{len(named)} models of {smallest:g} to {largest:g} billion parameters, asked here."
        of_one_size(rows, out, source, asked=list(tasks), **asking)
    else:
        changed = {"steps": steps, "questions": questions, "seeds": seeds}
        plan = replace(QUICK if quick else Plan(), **{name: value for name, value in changed.items() if value})
        toys(plan, running)


if __name__ == "__main__":
    app()
