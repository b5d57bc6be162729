"""The study's cells: a model judged as it is, a learning rate tried, a base trained and judged.

Verdicts are kept item by item, a text a run ("0110/0111": two runs of four items), so that tables pair them by item.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import circuitkit as ck
from circuitkit.evaluation import Evaluation
from circuitkit.training import Example, Trained, nested_subsets
from circuitkit.training.subsets import HELD_OUT, SIZES, Subsets

Cell = dict[str, str | float]
Method = Literal["full", "lora"]

PRESETS = {"full": "elicitation", "lora": "elicitation-lora"}


class Taught(Protocol):
    """What models are taught: a thousand examples or so."""

    def examples(self) -> list[Example]:
        """All of them, without duplicates."""


class Asked(Protocol):
    """What models are asked before and after."""

    def evaluated(self, model: ck.Model) -> Evaluation:
        """A model's answers, judged."""


@dataclass(frozen=True)
class Way:
    """How a base is trained.

    Attributes:
        method: all weights ("full"), or adapters of rank 1 ("lora").
        learning_rate: the peak of its cosine.
        steps: at most.
        every: steps from one evaluation and checkpoint to the next.
        text: "plain", or "chat" for a base that has a chat template.
        memory_batch: examples that go through the model at once; a step's all, if None.
    """

    method: Method
    learning_rate: float
    steps: int
    every: int
    text: Literal["plain", "chat"] = "plain"
    memory_batch: int | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """What it changes of the preset."""
        settings: dict[str, Any] = {
            "learning_rate": self.learning_rate,
            "max_steps": self.steps,
            "evaluate_every": self.every,
            "checkpoint_every": self.every,
            "text": self.text,
            "loss_on": "chain",
        }
        if self.memory_batch is not None:
            settings["device_batch_size"] = self.memory_batch
        return settings


def judged(model: str, asked: Asked) -> Cell:
    """How well a model does as it is."""
    loaded = ck.load(model)
    return {"parameters": _size(loaded), **verdicts(asked.evaluated(loaded))}


def tried(base: str, taught: Taught, way: Way, seed: int, folder: Path) -> Cell:
    """The lowest validation loss of a learning rate, on the largest subset; no question is asked."""
    drawn = _drawn(taught.examples(), seed)
    found = _train(
        base, drawn.subsets[max(drawn.subsets)], drawn.held_out, way, seed, folder / _named(base, way, "tried", seed)
    )
    losses = found.curve["validation_loss"].dropna()
    shutil.rmtree(found.folder)
    return {"lowest": float(losses.min()), "last": float(losses.iloc[-1]), "seconds_training": found.seconds}


def trained(base: str, taught: Taught, asked: Asked, examples: int, way: Way, seed: int, folder: Path) -> Cell:
    """A base trained on so many examples, and judged.

    Full fine-tuning holds 72 examples out, by whose loss a checkpoint is chosen: the last within 0.1 nats of the best.
    Adapters see all examples, as in the paper, so that nothing is left to choose by, and the last step counts.
    """
    everything = taught.examples()
    drawn = _drawn(everything, seed)
    out = folder / _named(base, way, examples, seed)
    if way.method == "lora":
        if examples != len(everything):
            raise ValueError(f"adapters are trained on all {len(everything)} examples, not on {examples}")
        found = _train(base, everything, None, way, seed, out)
        told: Cell = {"loss_before": float("nan"), "loss_best": float("nan"), "loss_chosen": float("nan")}
    else:
        found = _train(base, drawn.subsets[examples], drawn.held_out, way, seed, out)
        told = _losses(found)
        told |= {"subset_hash": drawn.hashes[examples], "held_out_hash": drawn.hashes["held out"]}
    answered = verdicts(asked.evaluated(found.model))
    # The chosen model is kept, to be compared with others; what only a resumed training needs is not.
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
    return {
        "parameters": _size(found.model),
        "trainable": found.trainable,
        "chosen": found.chosen,
        "seconds_training": found.seconds,
        "kept": str(found.folder),
        "curve": found.curve.to_json(orient="records"),
        **told,
        **answered,
    }


def verdicts(found: Evaluation) -> Cell:
    """What an evaluation found: each judge's verdicts item by item, the headline's judge first, and what failed."""
    runs = [frame for _, frame in found.frame.groupby(["seed", "sample"])]
    right = {
        judge: "/".join("".join(str(int(each)) for each in frame[judge]) for frame in runs) for judge in found.judges
    }
    return {
        "right": json.dumps(right),
        "items": json.dumps([item.key for item in found.items]),
        "truncated": found.truncated.value,
        "unparseable": found.unparseable.value,
        "tokens": float(found.frame["n_tokens"].mean()),
    }


def _drawn(examples: Sequence[Example], seed: int) -> Subsets[Example]:
    """The paper's subsets, as far as there are examples for them."""
    sizes = [size for size in SIZES if HELD_OUT + size <= len(examples)]
    return nested_subsets(examples, sizes, HELD_OUT, seed)


def _train(
    base: str, examples: Sequence[Example], held_out: Sequence[Example] | None, way: Way, seed: int, out: Path
) -> Trained:
    # With nothing to choose by, the last checkpoint is the one.
    rule = {"rule": "last"} if held_out is None else {}
    return ck.train(
        base,
        examples,
        out=out,
        preset=PRESETS[way.method],
        validation=held_out,
        seed=seed,
        progress=False,
        **way.settings,
        **rule,
    )


def _losses(found: Trained) -> Cell:
    measured = found.curve.set_index("step")["validation_loss"].dropna()
    return {
        "loss_before": float(measured.iloc[0]),
        "loss_best": float(measured.min()),
        "loss_chosen": float(measured.loc[found.chosen]),
    }


def _named(base: str, way: Way, examples: int | str, seed: int) -> str:
    return f"{base.replace('/', '--')}/{way.method}-{examples}-{way.learning_rate:g}-seed{seed}"


def _size(model: ck.Model) -> int:
    return sum(weights.numel() for weights in model.hf.parameters())
