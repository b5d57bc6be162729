"""Going on with a training that was cut short, to the same weights bit for bit, on transformers' own checkpoints."""

from __future__ import annotations

import fcntl
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import Trainer

from circuitkit.training import checkpoints, rules
from circuitkit.training.distributed import agree, any_of_them, is_first, join, processes
from circuitkit.training.errors import TrainingError

_LOCK = ".training"


class Durable(Trainer):
    """A trainer whose checkpoints are whole, and whose training goes on from them as if it had never stopped.

    Stands before `transformers.Trainer`, or a trainer made from it, among a trainer's bases. Checkpoints lie in
    `args.output_dir` as `step-00100`, and are pruned by `keep` and `margin`. Only the first process writes.

    Attributes:
        keep: which checkpoints are kept; see `rules.kept`.
        margin: of the rule "last within", in nats a token.
    """

    keep: rules.Keep = "choosable"
    margin: float = 0.1
    _beside: Path | None = None
    _chance: Mapping[str, bytes] = {}

    def go_on(self) -> None:
        """Train to the end, from the last whole checkpoint where there is one.

        Raises:
            TrainingError: that checkpoint is of another number of processes; one cannot be written; weights or a
                validation loss are no longer finite. The last good checkpoint is named and kept.
        """
        folder = Path(str(self.args.output_dir))
        join()
        if is_first():
            checkpoints.sweep_up(folder)
        # One process looks, so that all of them go on from the same.
        found = gather_object([checkpoints.last(folder) if is_first() else None])[0]
        if found is not None:
            _check_processes(found)
            # What was measured before the first step is in the checkpoint's log.
            self.args.eval_on_start = False
        self.train(resume_from_checkpoint=None if found is None else str(found))

    def _run_epoch(self, model: Any, epoch: int, *args: Any, **settings: Any) -> None:
        # Transformers asks only after a further step whether the training is over.
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return
        super()._run_epoch(model, epoch, *args, **settings)  # type: ignore[no-untyped-call]  # it is

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        folder, step = Path(str(self.args.output_dir)), self.state.global_step
        self._check_sound(folder, step)
        self._chance = _everyones(super()._save_rng_state) if processes() > 1 else {}
        with _agreed():
            if is_first():
                checkpoints.check_room(folder, step, self._needed())
        # Processes gather a sharded model's weights between its files: one that fails there is not waited for.
        with nullcontext() if self.is_fsdp_enabled else _agreed():
            self._beside = checkpoints.hidden(folder, step)
            try:
                with checkpoints.written(folder, step) if is_first() else nullcontext():
                    super()._save_checkpoint(model, trial)
                    if is_first():
                        _lift(self._beside / f"checkpoint-{step}")
            finally:
                self._beside = None
            if is_first():
                self._prune(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        # Several architectures are saved under other names than their modules have (experts one by one, say), and
        # transformers' trainer passes over names that it does not find; loading a model knows them.
        loaded: Any = self.model if model is None else model
        if self.is_fsdp_enabled or hasattr(loaded, "peft_config"):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        widest = max((each.dtype for each in loaded.parameters()), key=lambda dtype: dtype.itemsize)
        weights = type(loaded).from_pretrained(resume_from_checkpoint, dtype=widest).state_dict()
        loaded.load_state_dict(weights)

    def _get_output_dir(self, trial: Any) -> str:
        return super()._get_output_dir(trial) if self._beside is None else str(self._beside)

    def _save_rng_state(self, output_dir: str) -> None:
        if processes() == 1:
            super()._save_rng_state(output_dir)
        elif is_first():
            for name, state in self._chance.items():
                (Path(output_dir) / name).write_bytes(state)

    def _prune(self, folder: Path) -> None:
        losses = validation_losses(self.state.log_history)
        steps = list(checkpoints.listed(folder))
        checkpoints.prune(folder, rules.kept(steps, [losses.get(step) for step in steps], self.margin, self.keep))

    def _needed(self) -> int:
        """The bytes of what a checkpoint holds: weights, or the adapter's, and what the optimizer remembers."""
        if self.is_fsdp_enabled:
            return 0
        assert self.model is not None and self.optimizer is not None
        adapter = hasattr(self.model, "peft_config")
        saved = [each for each in self.model.parameters() if each.requires_grad or not adapter]
        remembered = [each for state in self.optimizer.state.values() for each in state.values()]
        return sum(each.nbytes for each in [*saved, *remembered] if isinstance(each, Tensor))

    def _check_sound(self, folder: Path, step: int) -> None:
        """Refuse to keep a model that has diverged: a training that went on from it could only fail."""
        loss = validation_losses(self.state.log_history).get(step)
        if loss is not None and not math.isfinite(loss):
            raise checkpoints.diverged(folder, step, f"the validation loss is {loss}")
        assert self.model is not None
        spoiled = next((name for name, weight in self.model.named_parameters() if not _finite(weight)), None)
        if any_of_them(spoiled is not None):
            raise checkpoints.diverged(folder, step, f"weights are no finite numbers ({spoiled or 'elsewhere'})")


def validation_losses(history: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    """What rules compare, by step: validation losses, or where responses are rewarded, the reward below zero.

    Args:
        history: `trainer.state.log_history`.

    >>> validation_losses([{"step": 10, "loss": 2.0}, {"step": 10, "eval_loss": 1.5}, {"step": 20, "eval_reward": 0.4}])
    {10: 1.5, 20: -0.4}
    """
    found = {}
    for logged in history:
        if "eval_loss" in logged:
            found[int(logged["step"])] = float(logged["eval_loss"])
        elif "eval_reward" in logged:
            found[int(logged["step"])] = -float(logged["eval_reward"])
    return found


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a folder against another run of the same training; a process that is killed lets go of it.

    Raises:
        TrainingError: another process holds it.

    >>> with tempfile.TemporaryDirectory() as place, alone(Path(place)):
    ...     pass
    """
    error = None
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("w") as lock:
        if is_first():
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                error = TrainingError(f"another process is training in {folder}: wait for it, or name another folder")
        agree(error)
        yield


@contextmanager
def _agreed() -> Iterator[None]:
    """What goes wrong in one process within the block is raised in all of them."""
    error = None
    try:
        yield
    except Exception as raised:
        error = raised
    agree(error)


def _everyones(save: Any) -> dict[str, bytes]:
    """The states of all processes' random numbers, as files that one process writes."""
    with tempfile.TemporaryDirectory() as own:
        save(own)
        mine = {path.name: path.read_bytes() for path in Path(own).iterdir()}
    return {name: state for files in gather_object([mine]) for name, state in files.items()}


def _check_processes(checkpoint: Path) -> None:
    by = len(list(checkpoint.glob("rng_state*.pth")))
    if by != processes():
        raise TrainingError(
            f"{checkpoint} was written by {by} processes, and {processes()} are to go on with it: start as many as "
            "before, since random numbers are each process's own"
        )


def _lift(folder: Path) -> None:
    """Move what is in a folder to the one that it is in."""
    for path in folder.iterdir():
        path.rename(folder.parent / path.name)
    folder.rmdir()


def _finite(weight: Tensor) -> bool:
    if not weight.requires_grad:
        return True
    here = weight.to_local() if isinstance(weight, DTensor) else weight
    return bool(torch.isfinite(here).all())
