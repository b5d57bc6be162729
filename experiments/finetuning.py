"""Does fine-tuning teach models below the threshold to reason, or to remember? And is it measured fairly?

    python experiments/finetuning.py --out FOLDER --preset small
    python experiments/finetuning.py --out FOLDER --preset full
    python experiments/finetuning.py --out FOLDER --preset letter --models openai-community/gpt2
    python experiments/finetuning.py --out FOLDER --published

Hsiao & Dutta 2025 (arXiv 2502.15120) fine-tune six small models on 1,800 PrOntoQA-OOD proofs of six rules and test them
with no exemplars; two rules stay at 0. Here the same is done to embedded `deductor` models, or to any others, and asked
further:

- the test with the published decoding and without, judged by the published headline rule and strictly, behind the
  separator of the test and that of training (`confound.csv`);
- the rules that fine-tuning makes worse, question by question (`degraded.csv`);
- each rule left out of the training set, and tested (`transfer.csv`); training questions against new ones, and words
  that training never showed (`memorising.csv`);
- training in stages, and GRPO, on what stays hard, against fine-tuning of as many steps (`stages.csv`).

Tables are CSV, figures PNG and SVG; `sentences.md` says what they show, `provenance.json` where they come from. Run
again with the same `--out`, the study goes on where it was stopped. `--published` needs no model: it draws the paper's
table, with strict shares where they are known, and counts words in the released answers where CIRCUITKIT_DATA names
them.

The paper's models, as `--models` takes them: openai-community/gpt2 openai-community/gpt2-medium
HuggingFaceTB/SmolLM2-135M HuggingFaceTB/SmolLM2-135M-Instruct apple/OpenELM-270M apple/OpenELM-270M-Instruct
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Literal

import answers_to_read
import cyclopts
from cyclopts import Parameter
from reports import write_report
from tuning import results
from tuning.plans import PRESETS, Plan
from tuning.published import published_study
from tuning.study import Running, Subject, questions, slug, staged, starts, subjects, tested, trainings
from tuning.texts import Duplicates

from circuitkit.records import provenance

app = cyclopts.App(help=__doc__, help_format="plaintext")
Many = Parameter(negative="", consume_multiple=True)


@app.default
def main(
    *,
    out: Path,
    published: bool = False,
    preset: Literal["small", "full", "letter"] = "small",
    models: Annotated[tuple[str, ...], Many] = (),
    transfer: Annotated[tuple[str, ...], Many] | None = None,
    staged_models: Annotated[tuple[str, ...], Many] | None = None,
    seeds: Annotated[tuple[int, ...], Many] | None = None,
    epochs: int | None = None,
    context: int | None = None,
    batch: int | None = None,
    learning_rate: float | None = None,
    duplicates: Duplicates = "keep",
    workers: int = 1,
    progress: bool = True,
) -> None:
    """Fine-tune models on proofs, ask them, and tell reasoning from remembering.

    Parameters
    ----------
    out
        Folder for tables, figures, sentences and trained models; run again with the same one, the study goes on.
    published
        Draw the paper's own table instead.
    preset
        "small": two tiny models, minutes. "full": what the page on fine-tuning shows. "letter": the published settings
        (up to 100 epochs, pieces of 1,024 tokens, 8 in a step), without the transfer test and stages unless asked.
    models
        Embedded models, hub ids or folders; the preset's if not given.
    transfer
        Of these, models from whose training each rule is left out in turn.
    staged_models
        Of these, models that are trained in stages and by GRPO.
    seeds
        Of the transfer test and the stages. The first is that of the other tables too.
    epochs
        At most, of each fine-tuning.
    context
        Tokens that concatenated training texts are cut into.
    batch
        Such pieces in a step.
    learning_rate
        Of every model. If not given, the published 2e-5, and 3e-3 for models below ten million parameters.
    duplicates
        What becomes of training questions that are test questions too: "keep" (as published), "drop" or "refuse".
    workers
        Processes that train and ask.
    progress
        Show bars.
    """
    if published:
        published_study(out)
        return
    started = time.monotonic()
    plan = planned(PRESETS[preset], models, transfer, staged_models, seeds, duplicates)
    changed = {"epochs": epochs, "context": context, "batch": batch, "learning_rate": learning_rate}
    changed = {name: value for name, value in changed.items() if value is not None}
    plan = replace(plan, tuning=replace(plan.tuning, **changed))
    if learning_rate is not None:
        plan = replace(plan, tiny_rate=learning_rate)
    study(plan, Running(out, workers, progress), started)


def planned(
    plan: Plan,
    models: tuple[str, ...],
    transfer: tuple[str, ...] | None,
    staged_models: tuple[str, ...] | None,
    seeds: tuple[int, ...] | None,
    duplicates: Duplicates,
) -> Plan:
    """A preset with what the command line says otherwise; models that are not asked for are in no further test."""
    named = models or plan.models
    plan = replace(
        plan,
        models=named,
        transfer=tuple(each for each in plan.transfer if each in named) if transfer is None else transfer,
        staged=tuple(each for each in plan.staged if each in named) if staged_models is None else staged_models,
        duplicates=duplicates,
    )
    return plan if not seeds else replace(plan, seeds=seeds[:1], transfer_seeds=seeds, staged_seeds=seeds)


def study(plan: Plan, running: Running, started: float) -> None:
    """Train, ask, and write what was found."""
    begun = starts(plan, running.out)
    trained = running.train(trainings(plan, begun))
    answers = running.ask(asked for who in subjects(plan, begun, trained) for asked in questions(plan, who))
    read_before_and_after(plan, subjects(plan, begun, trained), running.out)
    found = results.of_trainings(plan, begun, trained, answers)
    if plan.staged:
        found |= results.of_stages(plan, *staged(plan, begun, running))
    minutes = (time.monotonic() - started) / 60
    told = provenance(
        model_name=", ".join(plan.models), seed=plan.seeds[0], plan=asdict(plan), minutes=round(minutes, 1)
    )
    write_report(running.out, found.tables, found.figures, found.text, told)
    print(found.text, f"Tables, figures and provenance are in {running.out} ({minutes:.0f} minutes).", sep="\n")


def read_before_and_after(plan: Plan, every: Sequence[Subject], out: Path) -> None:
    """Keep what each model writes before and after the published training, on questions of the first seed."""
    seed = plan.seeds[0]
    shown = [who for who in every if who.seed == seed and who.training in ("none", "all")]
    told = {"none": "before", "all": "after"}
    models = {f"{slug(who.model)} {told[who.training]}": who.weights.name for who in shown}
    answers_to_read.keep(models, replace(tested(plan, shown[0]), separator="trained").task(), out, shots=0)


if __name__ == "__main__":
    app()
