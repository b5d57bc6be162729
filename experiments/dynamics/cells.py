"""The cells of the study: the common start, the trainings, and what a checkpoint can do and how."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from eliciting.proofs import HELD_OUT_SEED, HELD_OUT_SIZE, Proofs, told_apart
from emergence.asking import Deductions
from emergence.plans import Recipe
from emergence.prompts import Written

import circuitkit as ck
from circuitkit.tasks import prontoqa
from circuitkit.tasks.task import Task
from dynamics.plans import Method, Way

Cell = dict[str, Any]
QUESTION_SEED = 11


def warmed(base: str, rules: tuple[str, ...], proofs: int, way: Way, steps: int, folder: str) -> Cell:
    """Fine-tune a base until it is sometimes right; that is where all trainings start."""
    trained = ck.train(
        base,
        Proofs(rules, 1, proofs).examples(),
        out=Path(folder),
        text="plain",
        max_steps=steps,
        seed=0,
        rule="last",
        progress=False,
        **way.settings,
    )
    return {"weights": str(trained.folder / "model"), "seconds": trained.seconds}


def trained(
    start: str,
    method: Method,
    rules: tuple[str, ...],
    proofs: int,
    way: Way,
    steps: int,
    every: int,
    seed: int,
    folder: str,
) -> Cell:
    """Train a model, and keep a checkpoint every few steps."""
    data: Any = questions(rules, proofs) if method == "grpo" else Proofs(rules, 1, proofs).examples()
    text = {} if method == "grpo" else {"text": "plain"}
    found = ck.train(
        start,
        data,
        out=Path(folder),
        teacher=way.teacher,
        max_steps=steps,
        checkpoint_every=every,
        log_every=1,
        keep="all",
        rule="last",
        seed=seed,
        progress=False,
        **text,
        **way.settings,
    )
    columns = [name for name in ("step", "loss", "reward") if name in found.curve]
    return {
        "checkpoints": json.dumps({step: str(path) for step, path in found.checkpoints.items()}),
        "curve": found.curve[columns].to_json(orient="records"),
        "seconds": found.seconds,
    }


def questions(rules: tuple[str, ...], n: int) -> Task:
    """Questions of one hop that are rewarded, none of them held out."""
    drawn = prontoqa.task(rules, 1, 0, -(-n // len(rules)), QUESTION_SEED)
    held_out = {
        told_apart(example.prompt)
        for rule in rules
        for example in prontoqa.generate(rule, 1, 0, HELD_OUT_SIZE, HELD_OUT_SEED)
    }
    kept = tuple(item for item in drawn.items if told_apart(item.question) not in held_out)
    return replace(drawn, items=kept)


def measured(
    model: ck.Model, written: Written, recipe: Recipe, asked: Deductions, resamples: int, seed: int, path: str
) -> Cell:
    """How often a checkpoint is right, its circuit, and how much of that would change with other problems."""
    accuracy = ck.evaluate(model, asked.task("answers"), progress=False, **asked.settings).accuracy
    pairs, align = written.on(model)
    graph = recipe.scored(model, pairs, align, path)
    steady = ck.circuits.stability(
        graph, recipe.edges(graph.layout.n_edges), resamples=resamples, seed=seed, progress=False
    )
    often = [
        float(share) for name, share in zip(graph.layout.sources, steady.node_frequency, strict=True) if ".h" in name
    ]
    return {
        "graph": path,
        "accuracy": accuracy.value,
        "low": accuracy.low,
        "high": accuracy.high,
        "questions": accuracy.n,
        "strongest": float(graph.scores.abs().max()),
        "stability": steady.value,
        "verdict": steady.verdict,
        "noise": 2 * sum(share * (1 - share) for share in often),
    }
