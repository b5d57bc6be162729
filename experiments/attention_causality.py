"""Whether the tokens that a model attends to most are those that its proofs need: two causal tests.

    python experiments/attention_causality.py --out FOLDER
    python experiments/attention_causality.py --out FOLDER --models Qwen/Qwen2.5-0.5B Qwen/Qwen2.5-1.5B --shots 3

A model's proofs are judged first: one that gets at least the share `--succeeds` right is a successful one, the others
fail. In a successful model, the prompt's tokens that its own proof attended to most are masked, in all layers and
heads, and the loss of accuracy is held against that of masking as many random tokens, and as many random ones of the
same part of speech. In a failing model, attention is forced onto the earlier occurrences of the next gold token, one
layer at a time and in all together, and the gain of next-token accuracy on gold proofs is held against that of forcing
it onto random tokens, and onto random ones of the same part of speech.

Hsiao & Dutta 2025 (arXiv 2502.15120) read from attention scores that successful models attend to the right tokens, and
leave such tests to later work.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import answers_to_read
import cyclopts
import pandas as pd
from causality.cells import Questions, forcing, masking, proving
from causality.figures import forcing_figure, masking_figure
from causality.sentences import said
from causality.tables import forcing_table, masking_table, models_table
from cyclopts import Parameter
from reports import listed
from sweeps import ended_well

import circuitkit as ck
from circuitkit import plots, studies
from circuitkit.records import provenance, whole_file
from circuitkit.studies import Pretrained
from circuitkit.tasks.prontoqa import Distractors

FAMILY = ("deductor-5k", "deductor-20k", "deductor-60k", "deductor-130k", "deductor-400k", "deductor-1m")

app = cyclopts.App(help=__doc__)


@app.default
def main(
    *,
    out: Path,
    models: Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=True)] = FAMILY,
    rule: str = "implication_elimination",
    hops: int = 2,
    n: int = 100,
    distractors: Distractors = "irrelevant",
    shots: int = 0,
    max_new_tokens: int = 96,
    k: Annotated[tuple[int, ...], Parameter(negative="", consume_multiple=True)] = (2, 4, 8),
    draws: int = 2,
    forced_n: int = 40,
    weights: Annotated[tuple[float, ...], Parameter(negative="", consume_multiple=True)] = (0.25, 1.0),
    succeeds: float = 0.5,
    seed: int = 0,
) -> None:
    """Mask what successful models attend to, force failing ones to attend to the right tokens, and measure.

    Parameters
    ----------
    out
        Folder for tables (CSV), figures (PNG, SVG), sentences, some answers to read, and provenance (JSON). A run that
        was cut short goes on there.
    models
        Embedded models, hub ids or folders. The embedded family, where none is named.
    rule
        The deduction rule of the questions.
    hops
        Steps of each proof.
    n
        Questions.
    distractors
        Rules that no proof uses: "none", "relevant" or "irrelevant". Without, a prompt has few other tokens of the
        same part of speech to mask.
    shots
        Exemplars before each question; models that were not trained on such proofs need some.
    max_new_tokens
        Tokens at which a proof is broken off; a spoilt model may go on for ever.
    k
        How many tokens are masked.
    draws
        Random choices of each kind.
    forced_n
        Gold proofs that attention is forced on, the first of the questions.
    weights
        The parts of its attention that a head is forced to put on the named tokens, from 0 to 1.
    succeeds
        The share of right proofs from which a model counts as successful.
    seed
        Of questions and draws.
    """
    asked = Questions(rule, hops, n, distractors, seed, shots, max_new_tokens)
    clean = finished(studies.grid(proving, model=loaded(models), questions=asked), out)
    judged = models_table(clean, list(models), succeeds)
    print(judged.to_string(index=False), "\n")
    answers_to_read.keep({name: name for name in models}, asked.task(), out, each=answers_to_read.MOST)
    able = judged.loc[judged["succeeds"], "model"].tolist()
    failing = judged[~judged["succeeds"]]

    cells: list[studies.Cell] = []
    if able:
        cells += studies.grid(
            masking, model=loaded(able), questions=asked, tokens=["all", "content"], k=list(k), draws=draws
        )
    shown = replace(asked, n=min(n, forced_n))
    for row in failing.itertuples():
        # As many exemplars as its own proofs were written behind: those that fit its context.
        own = {"model": Pretrained(row.model), "questions": shown, "shots": int(row.shots)}
        layers: list[int | str] = [*range(int(row.n_layers)), "all"]
        cells += studies.grid(forcing, **own, layer=layers, weight=list(weights), draws=draws)
    measured = finished(cells, out) if cells else pd.DataFrame()
    tables = {"models": judged}
    figures = {}
    if able:
        tables["masking"] = masking_table(measured[measured["function"].str.endswith("masking")], seed)
        figures["masking"] = masking_figure(tables["masking"], judged, asked)
    if len(failing):
        tables["forcing"] = forcing_table(measured[measured["function"].str.endswith("forcing")], seed)
        figures["forcing"] = forcing_figure(tables["forcing"], asked)
    for name, missing in (("masking", not able), ("forcing", failing.empty)):
        if missing:
            print(f"No model {'succeeds' if name == 'masking' else 'fails'}, so there is no {name} to do.")
    for name, table in tables.items():
        with whole_file(out / f"{name}.csv") as beside:
            table.to_csv(beside, index=False)
    for name, figure in figures.items():
        plots.save(figure, out / f"{name}.png")
    settings = {"k": k, "draws": draws, "forced_n": forced_n, "weights": weights, "succeeds": succeeds}
    told = provenance(model_name=", ".join(models), seed=seed, data=asdict(asked), questions=asdict(asked), **settings)
    told_of = listed(said(judged, tables.get("masking"), tables.get("forcing")))
    with whole_file(out / "sentences.md") as beside:
        beside.write_text(told_of, encoding="utf-8")
    with whole_file(out / "provenance.json") as beside:
        beside.write_text(json.dumps(told, indent=2) + "\n")
    for name in ("masking", "forcing"):
        if name in tables:
            print(f"{name}\n{tables[name].to_string(index=False, float_format=lambda value: f'{value:.3f}')}\n")
    print(told_of, f"Tables, figures, sentences and provenance are in {out}", sep="\n")


def loaded(names: tuple[str, ...] | list[str]) -> list[Pretrained]:
    """Models for cells, each loaded where it is needed."""
    return [Pretrained(name) for name in names]


def finished(cells: list[studies.Cell], out: Path) -> pd.DataFrame:
    """The table of cells that have all ended well, the function's name with each."""
    frame = ended_well(ck.sweep(cells, out / "cells")).frame
    return frame if "function" in frame else frame.assign(function=cells[0].function.__name__)


if __name__ == "__main__":
    app()
