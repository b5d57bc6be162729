"""The cells of the study: a model answers as it is or changed, and a base is trained in part and answers.

Verdicts and levels are kept answer by answer, as texts with a part a seed ("0110/0111"), so that tables pair them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from sweeps import as_text

import circuitkit as ck
from circuitkit.training import Example
from stethoscope.asking import Asked
from stethoscope.changing import Change, Weights
from stethoscope.fluency import log_likelihoods
from stethoscope.levelling import levels_of
from stethoscope.modules import ALWAYS

Cell = dict[str, str | float]


class Taught(Protocol):
    """What bases are taught."""

    def examples(self) -> tuple[list[Example], list[Example]]:
        """Those that are trained on, and held-out ones, by whose loss a learning rate is chosen."""


@dataclass(frozen=True)
class Way:
    """How a base is trained: the preset `freeze`, and what is set otherwise.

    Attributes:
        rates: peaks of the learning rate; the one whose validation loss ends lowest counts.
        settings: further settings of `ck.train`.
    """

    rates: tuple[float, ...]
    settings: dict[str, Any] = field(default_factory=dict)


def answered(
    model: ck.Model,
    change: Change | None,
    asked: Asked,
    seeds: tuple[int, ...],
    reference: Weights | None,
) -> Cell:
    """What a model answers with each seed, under a change or as it is.

    Where a change draws random weights, each seed draws its own, and asks its own questions of them.

    Args:
        reference: an intact model that tells the levels of answers; None for no levels.
    """
    groups = [(seed,) for seed in seeds] if change is not None and change.random else [tuple(seeds)]
    intact = None if reference is None else reference.load()
    frames, fluent, replaced = [], [], 0
    for group in groups:
        held: AbstractContextManager[int] = nullcontext(0) if change is None else change.on(model, group[0])
        with held as number:
            frames.append(_judged(model, intact, asked, group))
            fluent.append(log_likelihoods(model, asked.fluent()))
        replaced = number
    return {"replaced": replaced, **told(pd.concat(frames, ignore_index=True), fluent)}


def _judged(model: ck.Model, reference: ck.Model | None, asked: Asked, seeds: Sequence[int]) -> pd.DataFrame:
    """A row an answer: its seed, verdicts, level (0 where it is not asked for) and length."""
    found = asked.evaluated(model, seeds)
    frame = found.frame
    return frame.assign(
        of_seed=frame[asked.seed_column()],
        right=frame[found.judges[0]],
        level=0 if reference is None else levels_of(found, reference),
    )


def told(frame: pd.DataFrame, fluent: Sequence[Sequence[float]]) -> Cell:
    """What a cell keeps of its answers, a part a seed, and of the fluency, a mean over fillings for each text."""
    parts = [part for _, part in frame.groupby("of_seed", sort=True)]
    judges = [name for name in ("strict", "harness", "published") if name in frame]
    return {
        "seeds": "/".join(str(part["of_seed"].iloc[0]) for part in parts),
        "right": "/".join(as_text(part["right"]) for part in parts),
        "items": json.dumps([str(key) for part in parts for key in part["key"]]),
        **{name: "/".join(as_text(part[name]) for part in parts) for name in judges},
        "levels": "/".join("".join(str(level) for level in part["level"]) for part in parts),
        "tokens": "/".join(f"{part['n_tokens'].mean():.3f}" for part in parts),
        "truncated": float(frame["truncated"].mean()),
        "unparseable": float(frame["unparseable"].mean()),
        "fluency": json.dumps(np.mean(fluent, axis=0).round(5).tolist()),
        "shown": str(frame["response"].iloc[0])[:300],
    }


def trained(
    base: str,
    train: tuple[str, ...] | None,
    taught: Taught,
    way: Way,
    asked: Asked,
    seed: int,
    reference: Weights,
    folder: Path,
) -> Cell:
    """A base of which some modules are trained, with embedding, unembedding and norms, and what it then answers.

    Args:
        train: roles or names of modules; none besides those three where empty, everything where None.
    """
    examples, held_out = taught.examples()
    named: dict[str, Any] = {"train": None, "always": ()}
    if train is not None:
        named = {"train": train or ALWAYS, "always": ALWAYS}
    tries = []
    for rate in way.rates:
        found = ck.train(
            base,
            examples,
            out=folder / f"rate {rate:g}",
            preset="freeze",
            validation=held_out,
            learning_rate=rate,
            seed=seed,
            progress=False,
            **{**way.settings, **named},
        )
        tries.append((float(found.curve["validation_loss"].dropna().iloc[-1]), rate, found))
    loss, rate, best = min(tries, key=lambda each: each[0])
    frame = _judged(best.model, reference.load(), asked, (seed,))
    return {
        "trainable": best.trainable,
        "total": best.total,
        "rate": rate,
        "validation_loss": loss,
        "seconds_training": sum(found.seconds for _, _, found in tries),
        "weights": str(best.folder / "model"),
        **told(frame, [log_likelihoods(best.model, asked.fluent())]),
    }
