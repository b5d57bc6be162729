"""`ck.train`: a model, data and a recipe, on transformers' trainers, in a folder that a killed run goes on in."""

from __future__ import annotations

import random
import shutil
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuitkit import plots
from circuitkit.evaluation.settings import weights_told
from circuitkit.model import Model, load
from circuitkit.records import provenance
from circuitkit.training import checkpoints, identity, outcome, rules
from circuitkit.training.errors import TrainingError
from circuitkit.training.outcome import Trained
from circuitkit.training.presets import preset as preset_of
from circuitkit.training.recipe import Recipe
from circuitkit.training.rules import Rule
from circuitkit.writing import write_json, write_table

if TYPE_CHECKING:
    from circuitkit.training.examples import Data
    from circuitkit.training.material import Material

History = Sequence[Mapping[str, Any]]
_LIBRARIES = ("accelerate", "peft", "trl")


def train(
    model: Model | str | Path,
    data: Data,
    *,
    out: str | Path,
    preset: str | None = None,
    validation: Data | float | None = None,
    teacher: Model | str | Path | None = None,
    fields: Mapping[str, str] | None = None,
    progress: bool = True,
    **settings: Any,
) -> Trained:
    """Train a model, and keep all of it in a folder.

    The same call again loads a finished training, and goes on with one that was cut short, to the same weights.

    Args:
        model: trained in place, also where it is a `Model`: at the end it holds the chosen checkpoint, in eval mode.
            It is moved to a GPU if there is one. A name is loaded in fp32, or as it is stored for an adapter. Of one
            that is frozen in part (`ck.sfn.freeze`), what is free is trained, and a recipe that names more is refused.
        data: a .jsonl file, examples, mappings, or a task; see `circuitkit.training.examples_of`. With
            `method="grpo"`, a task.
        out: the folder.
        preset: a recipe by name, of `circuitkit.training.PRESETS`.
        validation: the same kinds, or a share of the data.
        teacher: of `method="distil"`: a larger model of the same vocabulary.
        fields: what the data call the fields of an example.
        progress: show a bar.
        settings: of `circuitkit.training.Recipe`, over the preset's.

    Raises:
        TrainingError: data, settings or folder are not as they have to be (what is wrong is named), the loss is no
            finite number, or the disk is full. The last good checkpoint is named, and is what the model holds.

    >>> import tempfile
    >>> pairs = [{"question": f"Max is a {word}.", "chain": f"Max is a {word}."} for word in ("wumpus", "dumpus")]
    >>> with tempfile.TemporaryDirectory() as out:
    ...     ck.train("deductor-5k-base", pairs, out=out, epochs=3, batch_size=2, progress=False).chosen
    3
    """
    recipe = preset_of(preset).but(**settings)
    _check_installed()
    from circuitkit.training import material, resuming
    from circuitkit.training.distributed import agree

    out = Path(out)
    model = model if isinstance(model, Model) else _loaded(model, recipe)
    _check_free(model)
    with _own_chance():
        stuff = material.of(model, data, validation, recipe, teacher=teacher, fields=fields, progress=progress)
        _check(model, stuff)
        with resuming.alone(out):
            found = _finished(out, model, stuff) or _trained(out, model, stuff, progress)
            # No process goes on to read what the first has not written yet.
            agree()
            return found


def _loaded(name: str | Path, recipe: Recipe) -> Model:
    """A model whose weights are of a precision in which they can be trained; those beside an adapter stay frozen."""
    return load(name) if recipe.lora else load(name, dtype="float32")


def _check_installed() -> None:
    import importlib.util

    for name in _LIBRARIES:
        if importlib.util.find_spec(name) is None:
            raise TrainingError(f"training needs {name}, which is not installed: pip install 'circuitkit[train]'")


def _check_free(model: Model) -> None:
    if model.sessions:
        raise TrainingError(
            f"a context holds interventions or captures on {model.name}, and would be part of every step: leave it "
            "before training"
        )
    if hasattr(model.hf, "peft_config"):
        raise TrainingError(f"{model.name} has an adapter already: merge it first (model.hf.merge_and_unload())")
    if model.tokenizer is None:
        raise TrainingError(f"{model.name} has no tokenizer, and examples are text: give ck.Model(hf_model, tokenizer)")


def _check(model: Model, stuff: Material) -> None:
    """Refuse what would only fail once a folder is begun, or a training is over."""
    from circuitkit.training import freezing, lora
    from circuitkit.training.trainer import shared_arguments

    recipe = stuff.recipe
    if recipe.lora is not None:
        lora.targets(model, recipe.lora, recipe.layers)
    else:
        names = freezing.trained_names(model, recipe)
        _warn_of_narrow_weights(model, names)
    shared_arguments(recipe, stuff.rows, Path(outcome.CHECKPOINTS), validated=stuff.validated)
    rules.choose([1], [0.0 if stuff.validated else None], recipe.rule or "last", recipe.margin)


def _warn_of_narrow_weights(model: Model, names: set[str]) -> None:
    """Say that steps round away in 16 bits: a weight of bfloat16 moves by 1/256 of itself or not at all."""
    dtypes = {str(each.dtype) for name, each in model.anatomy.root.named_parameters() if name in names}
    if narrow := sorted(dtypes & {"torch.bfloat16", "torch.float16"}):
        warnings.warn(
            f"the weights of {model.name} that are trained are {narrow[0].removeprefix('torch.')}, in which most small "
            "steps round away: ck.load(…, dtype=torch.float32), and dtype='bfloat16' here computes in it all the same",
            stacklevel=4,
        )


@contextmanager
def _own_chance() -> Iterator[None]:
    """Give random numbers back as they were: a training seeds them."""
    import numpy as np
    import torch

    states = random.getstate(), np.random.get_state()  # noqa: NPY002  # libraries draw from the old generator
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002  # as above


def _finished(out: Path, model: Model, stuff: Material) -> Trained | None:
    """The training that is in a folder already, if it is done; one of anything else is refused."""
    from circuitkit.training.distributed import is_first

    told = {"weights": weights_told(model), "recipe": stuff.recipe.as_json(), **stuff.told, **_frozen_told(model)}
    before = Trained.load(out) if (out / outcome.TOLD).is_file() else None
    # A model that was trained in place is no more what it was at the start.
    if before is not None and told["weights"] == before.provenance["trained_weights"]:
        told["weights"] = before.provenance["weights"]
    identity.check_same(out, told, first=is_first())
    if before is None:
        return None
    with _as_it_was(model):
        model.hf.load_state_dict(load(out / outcome.MODEL).hf.state_dict())
    return replace(before, _model=[model])


def _frozen_told(model: Model) -> Mapping[str, Any]:
    """What was frozen before, which decides what is trained."""
    from circuitkit.training import freezing

    frozen = freezing.frozen_already(model)
    return {"frozen before": frozen} if frozen else {}


def _trained(out: Path, model: Model, stuff: Material, progress: bool) -> Trained:
    from circuitkit.training.distributed import is_first

    started, recipe, weights = time.monotonic(), stuff.recipe, weights_told(model)
    total = sum(parameter.numel() for parameter in model.hf.parameters())
    with _as_it_was(model):
        history, chosen, trainable = _carried_out(out, model, stuff, progress)
    trained = Trained(
        folder=out,
        curve=outcome.curve_of(history),
        chosen=chosen,
        rule=_rule(recipe, history),
        trainable=trainable,
        total=total,
        recipe=recipe,
        examples=stuff.examples,
        seconds=time.monotonic() - started,
        provenance=provenance(
            model_name=model.name,
            revision=model.revision,
            data=stuff.told["data"],
            seed=recipe.seed,
            weights=weights,
            trained_weights=weights_told(model),
            trained_with={name: version(name) for name in _LIBRARIES},
        ),
        _model=[model],
    )
    if is_first():
        _write(trained)
    return trained


def _carried_out(out: Path, model: Model, stuff: Material, progress: bool) -> tuple[History, int, int]:
    """Train, and put the chosen checkpoint into the model; gives log, step and how many parameters were trained."""
    from circuitkit.model.freezing import Unmoved, trainable
    from circuitkit.training import freezing, lora
    from circuitkit.training.distributed import is_first
    from circuitkit.training.progress import Bar
    from circuitkit.training.trainer import shared_arguments

    recipe, folder = stuff.recipe, out / outcome.CHECKPOINTS
    arguments = shared_arguments(recipe, stuff.rows, folder, validated=stuff.validated)
    with lora.adapting(model, recipe) if recipe.lora else freezing.freezing(model, recipe) as hf:
        trained, unmoved = trainable(hf), Unmoved.of(hf)
        bar = Bar(f"training {model.name}", shown=progress)
        trainer = stuff.trainer(hf, arguments, [bar])
        try:
            trainer.go_on()
            history = trainer.state.log_history
            chosen = _chosen(folder, history, recipe)
            trainer._load_from_checkpoint(str(checkpoints.listed(folder)[chosen]))
        except TrainingError:
            if (last := checkpoints.last(folder)) is not None:
                trainer._load_from_checkpoint(str(last))
            raise
        finally:
            bar.close()
            stuff.release(trainer)
        unmoved.check(hf, TrainingError)
        if recipe.lora and is_first():
            hf.save_pretrained(out / outcome.ADAPTER)
    return history, chosen, trained


@contextmanager
def _as_it_was(model: Model) -> Iterator[None]:
    """Leave no trace of a trainer on a model but its weights, and transformers as talkative as it was."""
    from transformers.utils import logging

    root: Any = model.anatomy.root
    verbosity, bars, use_cache = logging.get_verbosity(), logging.is_progress_bar_enabled(), root.config.use_cache
    try:
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # as the next
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
        root.config.use_cache = use_cache
        model.hf.eval()


def _rule(recipe: Recipe, history: History) -> Rule:
    from circuitkit.training.resuming import validation_losses

    return recipe.rule or ("best" if validation_losses(history) else "last")


def _chosen(folder: Path, history: History, recipe: Recipe) -> int:
    from circuitkit.training.resuming import validation_losses

    losses, steps = validation_losses(history), list(checkpoints.listed(folder))
    return rules.choose(steps, [losses.get(step) for step in steps], _rule(recipe, history), recipe.margin)


def _write(trained: Trained) -> None:
    """The finished training's files; that which says that it is finished comes last."""
    out = trained.folder
    beside = out / f".{outcome.MODEL}.writing"
    shutil.rmtree(beside, ignore_errors=True)
    with _as_it_was(trained.model):
        trained.model.hf.save_pretrained(beside)
    trained.model.tokenizer.save_pretrained(beside)
    shutil.rmtree(out / outcome.MODEL, ignore_errors=True)
    beside.rename(out / outcome.MODEL)
    write_json(out / outcome.RECIPE, trained.recipe.as_json())
    write_table(out / outcome.CURVE, trained.curve)
    plots.save(trained.plot(), out / outcome.FIGURE)
    write_json(out / outcome.TOLD, trained.told())
