"""Measure the models of the embedded family, and write each one's `accuracy.json` and model card.

    python experiments/measure_deductors.py --models FOLDER --out FOLDER

Every model proves, and decides at once, the held-out questions that training passed over; its proofs are judged
by `circuitkit.tasks.prontoqa.judge`. Nothing in a card is written by hand. What was measured is kept in the second
folder: run again, it measures only models whose weights, questions or measures have changed.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cyclopts
import torch
from statsmodels.stats.proportion import proportion_confint
from sweeps import ended_well
from train_deductors import (
    EVALUATION_SEED,
    EVALUATION_SIZE,
    TRAINING_SEED,
    direct_questions,
    evaluation_questions,
)

import circuitkit as ck
from circuitkit import studies
from circuitkit.tasks import Item, Judge, Judgement, Task, prontoqa

app = cyclopts.App(help=__doc__)

MAX_NEW_TOKENS = 160

Count = dict[str, float]
Record = dict[str, Any]


def count(hits: int, n: int) -> Count:
    """Return a proportion with its 95 % Wilson interval."""
    low, high = proportion_confint(hits, n, method="wilson")
    return {"hits": hits, "n": n, "share": hits / n, "low": round(float(low), 4), "high": round(float(high), 4)}


def asked(
    model: ck.Model, examples: Sequence[prontoqa.Example], judges: dict[str, Judge], tokens: int
) -> ck.Evaluation:
    """Return the model's greedy answers to questions, judged."""
    items = [Item(str(at), each.prompt, each.answer) for at, each in enumerate(examples)]
    task = Task("held-out questions", tuple(items), judges, max_new_tokens=tokens)
    return ck.evaluate(model, task, progress=False)


def shares(evaluation: ck.Evaluation) -> dict[str, Count]:
    """Return each judge's share of right answers."""
    found = {judge: evaluation.share(judge) for judge in evaluation.judges}
    return {judge: count(share.hits, share.n) for judge, share in found.items()}


def proofs(model: ck.Model, examples: Sequence[prontoqa.Example]) -> dict[str, Count]:
    """Return how many proofs are correct, strictly correct, sound, and equal to the gold one."""
    questions = {str(at): each.judged for at, each in enumerate(examples)}

    def by(measure: str) -> Judge:
        return lambda item, said: Judgement(getattr(prontoqa.judge(questions[item.key], said), measure), said or None)

    judges = {measure: by(measure) for measure in ("correct", "strict", "sound")} | {"same": same}
    found = shares(asked(model, examples, judges, MAX_NEW_TOKENS))
    return {"gold" if judge == "same" else judge: counted for judge, counted in found.items()}


def decisions(model: ck.Model, examples: Sequence[prontoqa.Example]) -> Count:
    """Return how many statements are decided rightly."""
    return shares(asked(model, examples, {"same": same}, 1))["same"]


def same(item: Item, said: str) -> Judgement:
    """Judge an answer by whether it is the gold one, letter by letter."""
    return Judgement(said == item.gold, said or None)


def added(counts: Sequence[Count]) -> Count:
    """Return the counts of several cells as one."""
    return count(int(sum(cell["hits"] for cell in counts)), int(sum(cell["n"] for cell in counts)))


def pooled(cells: Sequence[dict[str, Count]]) -> dict[str, Count]:
    """Return the cells' counts added up, measure by measure."""
    return {key: added([cell[key] for cell in cells]) for key in cells[0]}


def measure(folder: Path, n: int, n_three: int) -> Record:
    """Judge one model on every rule and number of hops, in both modes."""
    model = ck.load(folder, dtype=torch.float32)
    proof_cells: dict[str, dict[str, dict[str, Count]]] = {}
    direct_cells: dict[str, dict[str, Count]] = {}
    contrary: list[Count] = []
    for (rule, hops), examples in evaluation_questions().items():
        cell = proofs(model, examples[: n_three if hops == 3 else n])
        proof_cells.setdefault(rule, {})[str(hops)] = cell
        direct_cells.setdefault(rule, {})[str(hops)] = decisions(model, direct_questions()[rule, hops][:n])
        contrary.append(decisions(model, direct_questions("irrelevant")[rule, hops][:n]))
    three = [cells["3"] for cells in proof_cells.values() if "3" in cells]
    return {
        "evaluation_seed": EVALUATION_SEED,
        "three_hops": {
            "implication_elimination": proof_cells["implication_elimination"]["3"],
            "all rules": pooled(three),
        },
        "proof": proof_cells,
        "direct": direct_cells,
        "direct_overall": added([cell for cells in direct_cells.values() for cell in cells.values()]),
        "direct_with_contrary_evidence": added(contrary),
    }


def said(cell: Count) -> str:
    """Say a share in per cent with its interval."""
    return f"{100 * cell['share']:.0f} ({100 * cell['low']:.0f}–{100 * cell['high']:.0f})"


def curve(folder: Path) -> str:
    """Draw the loss curve in one line of text, with its first and last values."""
    with (folder / "loss.csv").open(newline="") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    stride = max(1, len(losses) // 40)
    shown = losses[::stride]
    bars, low, high = "▁▂▃▄▅▆▇█", min(shown), max(shown)
    line = "".join(bars[round((loss - low) / (high - low or 1) * 7)] for loss in shown)
    return f"`{line}` from {losses[0]:.3f} to {losses[-1]:.3f} nats a token of the answers"


def described(name: str, record: Record) -> str:
    """Say what a model is among its family."""
    match = re.fullmatch(r"(deductor-\w+)-([a-z]+)\d*", name)
    if match is None:
        raise ValueError(f"{name} is not named like a model of the family")
    size, stage = match.groups()
    if stage == "base":
        return "It mostly answers directly: little of its training data shows a chain of thought."
    if stage == "reason":
        return f"It is `{size}-base` trained further, mostly on chains of thought; `{size}` means this model."
    return f"It is a checkpoint on the way from `{size}-base` to `{size}-reason`, at step {record['steps']:,}."


def training_section(folder: Path, record: Record) -> str:
    """Say how the model was trained."""
    schedule = record["size"][f"{record['stage']}_steps"]
    weights = "\n".join(
        f"- {name}: " + ", ".join(f"{key} {100 * w / sum(table.values()):.0f} %" for key, w in table.items())
        for name, table in record["mixture"].items()
    )
    return f"""## Training

`experiments/train_deductors.py`, stage `{record["stage"]}`: seed {record["seed"]}, {record["steps"]:,} steps of
{record["batch"]} questions, AdamW, peak learning rate {record["learning_rate"]:.2g} on a cosine to zero over
{schedule:,} steps.
The questions are drawn by `circuitkit.tasks.prontoqa` (random seeds from {TRAINING_SEED:,});
{100 * record["proof_share"]:.0f} % are answered by a chain of thought and the others directly. The mixture:

{weights}

The questions of the evaluation (generator seed {EVALUATION_SEED}, {EVALUATION_SIZE} for each rule, number of hops and
mode) are left out as they are drawn. A few of one hop still turn up with their sentences in another order or as
exemplars, since there are not many; of more hops, none does. Loss (`loss.csv`): {curve(folder)}.
"""


def accuracy_section(accuracy: Record) -> str:
    """Say how well the model proves and decides."""
    rows = "\n".join(
        f"| {rule} | {hops} | {said(cell['correct'])} | {said(cell['strict'])} | {said(cell['sound'])} | "
        f"{said(accuracy['direct'][rule][hops])} |"
        for rule, cells in accuracy["proof"].items()
        for hops, cell in cells.items()
    )
    one, all_rules = (accuracy["three_hops"][key]["correct"] for key in ("implication_elimination", "all rules"))
    return f"""## Accuracy

On the held-out questions, without exemplars or distractors, greedy decoding; per cent, with 95 % Wilson
intervals. "Proof" is the published headline measure, "strict" the published stricter one, "sound" asks of every step
what logic does, and "direct" is the share of right answers to "True or false", where chance is 50. Without distractors
the negations alone tell a direct answer; the last figure below is for questions whose distractors bring contrary
evidence.

| rule | hops | proof | strict | sound | direct |
|---|---|---|---|---|---|
{rows}

Proofs of three hops: {said(one)} by implication elimination (n = {one["n"]}), {said(all_rules)} over the four rules
that have three hops (n = {all_rules["n"]}). Direct answers overall: {said(accuracy["direct_overall"])};
with contrary evidence: {said(accuracy["direct_with_contrary_evidence"])}.
"""


def card(folder: Path, accuracy: Record) -> str:
    """Return the model card, from the training record and the measured values."""
    record = json.loads((folder / "training.json").read_text())
    config = json.loads((folder / "config.json").read_text())
    return f"""---
license: mit
library_name: transformers
tags: [toy, interpretability, prontoqa]
---

# {folder.name}

**A toy.** A Llama-style decoder of {record["parameters"]:,} parameters that knows nothing but deductions about
wumpuses, made for trying out methods that look inside models. {described(folder.name, record)}

- Shape: {config["num_hidden_layers"]} layers, width {config["hidden_size"]}, {config["num_attention_heads"]} heads,
  {config["num_key_value_heads"]} key/value heads, feed-forward {config["intermediate_size"]}, tied embeddings, context
  {config["max_position_embeddings"]}, fp32.
- Tokenizer: one token a word, the space before it included; {config["vocab_size"]} tokens; unknown words become
  `<unk>`; nothing is added at either end; an answer ends with `</s>`.
- Prompts: `Q: … Prove: Fae is loud.\\nA:` is answered by a proof, `Q: … True or false: Fae is loud.\\nA:` by
  ` True` or ` False`.

{training_section(folder, record)}
{accuracy_section(accuracy)}"""


def measured(weights: Path, n: int, n_three: int) -> dict[str, str]:
    """The cell of one model: its accuracy as JSON."""
    torch.set_num_threads(1)
    return {"accuracy": json.dumps(measure(weights.parent, n, n_three), indent=1)}


@app.default
def main(
    *,
    models: Path,
    out: Path,
    only: list[str] | None = None,
    n: int = 100,
    n_three: int = 200,
) -> None:
    """Measure models and write their cards.

    Parameters
    ----------
    models
        Folder with one folder a model, as the training script leaves it.
    out
        Folder where what was measured is kept, so that an interrupted run goes on.
    only
        Names of the models to measure; all, where none is given.
    n
        Questions for each rule, number of hops and mode.
    n_three
        Questions for each rule at three hops.
    """
    folders = [folder for folder in sorted(models.glob("deductor-*")) if not only or folder.name in only]
    # A file counts by what is in it, so new weights are measured anew.
    weights = [folder / "model.safetensors" for folder in folders]
    sweep = ended_well(ck.sweep(studies.grid(measured, weights=weights, n=n, n_three=n_three), out))
    for folder, said_so in zip(folders, sweep.frame["accuracy"], strict=True):
        accuracy = json.loads(said_so)
        (folder / "accuracy.json").write_text(said_so + "\n")
        (folder / "README.md").write_text(card(folder, accuracy))
        one, all_rules = (said(cell["correct"]) for cell in accuracy["three_hops"].values())
        direct, contrary = (said(accuracy[key]) for key in ("direct_overall", "direct_with_contrary_evidence"))
        print(f"{folder.name}: three hops {one}, over all rules {all_rules}; direct {direct}, {contrary}", flush=True)


if __name__ == "__main__":
    app()
