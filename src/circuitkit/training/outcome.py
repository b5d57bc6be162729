"""What a training leaves: the chosen model, its curves, and all that says where it comes from."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from circuitkit.showing import Shown
from circuitkit.training import checkpoints
from circuitkit.training.errors import TrainingError
from circuitkit.training.recipe import Recipe

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from circuitkit.model import Model

RECIPE, CURVE, FIGURE, TOLD, MODEL, ADAPTER, CHECKPOINTS = (
    "recipe.json",
    "curve.csv",
    "loss.png",
    "trained.json",
    "model",
    "adapter",
    "checkpoints",
)
_KEPT = ("chosen", "rule", "trainable", "total", "examples", "seconds", "provenance")
_COLUMNS = ["step", "epoch", "loss", "validation_loss", "learning_rate"]
_LOGGED = {
    "loss": "loss",
    "learning_rate": "learning_rate",
    "eval_loss": "validation_loss",
    "reward": "reward",
    "eval_reward": "validation_reward",
    "eval_accuracy": "validation_accuracy",
    "kl": "kl",
}


@dataclass(frozen=True, eq=False, repr=False)
class Trained(Shown):
    """A finished training.

    Attributes:
        folder: where all of it is kept.
        curve: a row a logged step: step, epoch, loss and validation_loss (nats a token), learning_rate, and with "grpo"
            reward; NaN where one was not measured. The validation loss at step 0 is the model's before training.
        chosen: the step whose checkpoint the model holds.
        rule: by which it was chosen.
        trainable, total: how many parameters were trained (a LoRA's own), and how many the model has; tied ones once.
        recipe: all settings.
        examples: how many examples were trained on, "n", and their "sha256"; so for "validation", if there was one.
        seconds: how long the run took that finished it.
        provenance: model, data, seed, versions, command and time.

    >>> import tempfile
    >>> pairs = [{"question": f"Max is a {word}.", "chain": f"Max is a {word}."} for word in ("wumpus", "dumpus")]
    >>> with tempfile.TemporaryDirectory() as out:
    ...     trained = ck.train("deductor-5k-base", pairs, out=out, max_steps=2, batch_size=2, progress=False)
    ...     trained.chosen, len(Trained.load(out).curve)
    (2, 2)
    """

    folder: Path
    curve: pd.DataFrame
    chosen: int
    rule: str
    trainable: int
    total: int
    recipe: Recipe
    examples: Mapping[str, Any]
    seconds: float
    provenance: Mapping[str, Any]
    _model: list[Model]

    @property
    def model(self) -> Model:
        """The model at the chosen checkpoint, in eval mode, an adapter merged; loaded at first use after `load`."""
        if not self._model:
            from circuitkit.model import load

            self._model.append(load(self.folder / MODEL))
        return self._model[0]

    @property
    def checkpoints(self) -> dict[int, Path]:
        """The folders of the checkpoints that are kept, by step."""
        return checkpoints.listed(self.folder / CHECKPOINTS)

    def plot(self) -> Axes:
        """Draw the curves, with the chosen checkpoint."""
        from circuitkit import plots

        return plots.training_curves(
            self.curve,
            chosen=self.chosen,
            rule=self.rule,
            margin=self.recipe.margin if self.rule == "last within" else None,
            title=f"{self.provenance['model']}, {self.examples['n']} examples, {self.recipe.method}",
            loss_name="policy loss" if self.recipe.method == "grpo" else "loss, nats a token",
        )

    def _strongest(self) -> pd.DataFrame:
        return self.curve.iloc[::-1]

    @classmethod
    def load(cls, folder: str | Path) -> Trained:
        """A training that was finished, from its folder.

        Raises:
            TrainingError: there is none in it, or it was not finished.
        """
        folder = Path(folder)
        try:
            told = json.loads((folder / TOLD).read_bytes())
            curve = pd.read_csv(folder / CURVE)
            recipe = Recipe(**json.loads((folder / RECIPE).read_bytes()))
        except FileNotFoundError as error:
            raise TrainingError(
                f"{folder} holds no finished training: it has no {Path(error.filename).name}; call ck.train with it "
                "again to go on with one that was cut short"
            ) from error
        except (ValueError, KeyError) as error:
            raise TrainingError(f"the training in {folder} cannot be read: {error}") from error
        return cls(folder, curve, recipe=recipe, _model=[], **{name: told[name] for name in _KEPT})

    def told(self) -> dict[str, Any]:
        """What is kept beside curve, recipe and model, as JSON."""
        return {name: getattr(self, name) for name in _KEPT}


def curve_of(history: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """A trainer's log as a table with a row a step.

    >>> curve = curve_of([{"step": 0, "eval_loss": 2.0}, {"step": 1, "loss": 1.5}, {"step": 1, "eval_loss": 1.0}])
    >>> curve["validation_loss"].tolist()
    [2.0, 1.0]
    """
    rows: dict[int, dict[str, float]] = {}
    for logged in history:
        row = rows.setdefault(int(logged["step"]), {"step": int(logged["step"])})
        row["epoch"] = float(logged.get("epoch") or row.get("epoch", math.nan))
        row |= {name: float(logged[key]) for key, name in _LOGGED.items() if logged.get(key) is not None}
    found = pd.DataFrame([rows[step] for step in sorted(rows) if len(rows[step]) > len(("step", "epoch"))])
    for name in _COLUMNS:
        if name not in found:
            found[name] = math.nan
    return found[[*_COLUMNS, *(name for name in found if name not in _COLUMNS)]].astype({"step": int})
