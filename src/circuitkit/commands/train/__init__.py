"""`circuitkit train MODEL`: a model is trained on a file of examples or on a task, in a folder that it goes on in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import App

from circuitkit.commands.loading import LoadAs, load
from circuitkit.commands.train.options import From, Settings

if TYPE_CHECKING:
    import pandas as pd

    from circuitkit.training import Trained


_EXAMPLES = """\
The folder keeps checkpoints, curves and the chosen model, which every other command takes as its MODEL. The same
command again goes on where it was cut short, to the same weights.

```
circuitkit train deductor-130k-step600 --task prontoqa/implication_elimination/2 --shots 0 --validation 0.1 \\
    --learning-rate 1e-3 --max-steps 100 --out mine
circuitkit train Qwen/Qwen2.5-0.5B-Instruct --data traces.jsonl --preset elicitation-lora
circuitkit train deductor-60k --task prontoqa/implication_elimination/2 --shots 0 --method grpo --judge strict \\
    --group 8 --batch-size 64 --learning-rate 2e-4 --max-steps 60 --out rewarded
circuitkit eval mine/model --task prontoqa/implication_elimination/1 --shots 0
```
"""
train = App(name="train", help_epilogue=_EXAMPLES)


@train.default
def training(
    model: str,
    *,
    on: From | None = None,
    preset: str | None = None,
    settings: Settings | None = None,
    out: Path = Path("trained"),
    load_as: LoadAs | None = None,
) -> None:
    """Train a model: in full or by a low-rank adapter, some modules frozen, from a larger model, or by reward (GRPO).

    Parameters
    ----------
    model
        An embedded model (deductor-130k-base), a folder, or a hub id. Without --dtype its weights are float32 where
        they are trained themselves, since small steps round away in less, and as they are stored beside an adapter.
    preset
        Settings of a paper: thresholds, thresholds-revision, elicitation, elicitation-lora, freeze, thinking-sparks-sft
        or thinking-sparks-grpo; options that are given are over them.
    out
        Folder for checkpoints, the chosen model, the curve (CSV) and its figure (PNG, SVG), settings and provenance
        (JSON).
    """
    import circuitkit as ck
    from circuitkit.training import preset as preset_of

    learnt = on or From()
    chosen = (settings or Settings()).given(preset)
    # GRPO asks its questions itself; what else is learnt is their text, exemplars and all.
    asks = chosen.get("method", preset_of(preset).method) == "grpo"
    shots = None if asks else chosen.pop("shots", None)
    data, validation = learnt.examples(shots), learnt.held_out(shots)
    loaded = load(model, _wide_enough(load_as or LoadAs(), adapted=preset_of(preset).but(**chosen).lora is not None))
    teacher = None if learnt.teacher is None else load(learnt.teacher, load_as)
    trained = ck.train(
        loaded,
        data,
        out=out,
        preset=preset,
        validation=validation,
        teacher=teacher,
        fields=learnt.parts(),
        **chosen,
    )
    _tell(trained, model)


def _wide_enough(load_as: LoadAs, *, adapted: bool) -> LoadAs:
    return load_as if adapted or load_as.dtype is not None else replace(load_as, dtype="float32")


def _tell(trained: Trained, model: str) -> None:
    n = trained.examples["n"]
    last = int(trained.curve["step"].max())
    print(f"{model} on {n} example{'s' * (n != 1)}: {last} steps, {trained.seconds:.0f} s")
    share = 100 * trained.trainable / trained.total
    print(f"trained {trained.trainable:,} of {trained.total:,} parameters ({share:.3g} %)")
    print(_milestones(trained).to_string(index=False, na_rep="", float_format="{:.4g}".format))
    print(f"step {trained.chosen} is taken, by the rule {trained.rule!r}")
    print(f"the model is in {trained.folder / 'model'}; checkpoints, curve.csv and loss.png are in {trained.folder}/")


def _milestones(trained: Trained) -> pd.DataFrame:
    """The curve's rows at the start, at the best validation, at the chosen step and at the end."""
    curve = trained.curve
    at = {int(curve["step"].iloc[0]): "first", int(curve["step"].iloc[-1]): "last"}
    for name, best in (("validation_loss", "idxmin"), ("validation_reward", "idxmax")):
        if name in curve and curve[name].notna().any():
            at[int(curve.loc[getattr(curve[name], best)(), "step"])] = f"best {name.replace('_', ' ')}"
    at[trained.chosen] = f"{at[trained.chosen]}, taken" if trained.chosen in at else "taken"
    columns = [
        name
        for name in ("step", "epoch", "loss", "validation_loss", "reward", "validation_reward", "validation_accuracy")
        if name in curve and curve[name].notna().any()
    ]
    rows = curve[curve["step"].isin(at)].drop_duplicates("step", keep="last")
    return rows[columns].assign(what=rows["step"].map(at))
