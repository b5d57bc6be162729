"""Trained decoders prove the test questions, and their proofs are judged."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

import circuitkit as ck
import decoders.openelm_style  # noqa: F401  # saved decoders of this kind load once it is imported
from circuitkit.tasks import prontoqa
from circuitkit.tasks.task import Task
from decoders.training import HELD_OUT, HOPS

MAX_NEW_TOKENS = 116
"""The longest proof of three hops has 109, and the context holds as many more behind the longest question."""
JUDGES = ("headline", "strict", "sound")
_KEPT = ["key", "rule", "hops", *JUDGES, "truncated", "unparseable", "n_tokens"]


def exam(each: int) -> Task:
    """Return so many test questions of every kind, without exemplars, as a task.

    Raises `ValueError` where so many are not held out.
    """
    seed, held = HELD_OUT["test"]
    if not 1 <= each <= held:
        raise ValueError(f"there are 1 to {held} test questions of every kind, and not {each}")
    several = [rule for rule in prontoqa.RULES if rule not in prontoqa.ONE_HOP_RULES]
    parts = [
        prontoqa.task(several, HOPS, shots=0, n=each, seed=seed),
        prontoqa.task(prontoqa.ONE_HOP_RULES, 1, shots=0, n=each, seed=seed),
    ]
    items = tuple(item for part in parts for item in part.items)
    return replace(parts[0], name="prontoqa, 1 to 3 hops", items=items, max_new_tokens=MAX_NEW_TOKENS)


def answered(weights: Path, each: int) -> dict[str, str]:
    """The cell of one decoder: its judged answers as CSV, a row a question.

    `weights` is its file in a folder of the Hugging Face layout: what counts for the cell is what the file holds.
    """
    torch.set_num_threads(1)
    found = ck.evaluate(ck.load(str(weights.parent)), exam(each), progress=False)
    return {"answers": found.frame[_KEPT].to_csv(index=False)}


def as_table(answers: str) -> pd.DataFrame:
    """Read what `answered` wrote."""
    return pd.read_csv(io.StringIO(answers))


def by_model(models: pd.DataFrame, answers: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Add to every model how many questions it was `asked`, and the hits of each judge."""
    counts = [{"asked": len(table), **table[list(JUDGES)].sum().astype(int)} for table in answers]
    return models.reset_index(drop=True).join(pd.DataFrame(counts))


def by_kind(models: pd.DataFrame, answers: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Give hits and 95 % intervals for each architecture and amount of data by rule and hops, seeds together.

    The intervals are Wilson's for the questions asked, and do not hold for another training.
    """
    named = models[["architecture", "questions", "seed"]].to_dict("records")
    rows = pd.concat([table.assign(**name) for name, table in zip(named, answers, strict=True)])
    cells = rows.groupby(["architecture", "questions", "rule", "hops"], sort=False)
    found = cells[list(JUDGES)].sum().assign(asked=cells.size())
    for judge in JUDGES:
        bounds = [ck.statistics.wilson(*pair) for pair in found[[judge, "asked"]].astype(int).itertuples(index=False)]
        found[[f"{judge}_low", f"{judge}_high"]] = bounds
    return found.reset_index()
