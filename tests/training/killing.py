"""Trains in a process that is killed with SIGKILL at a chosen moment; forked, so that libraries are imported once."""

import hashlib
import os
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import transformers

import circuitkit as ck
from circuitkit.training import Trained, checkpoints

NAMES = ("Max", "Fae", "Rex", "Sam", "Wren", "Polly", "Stella")
KINDS = ("wumpus", "dumpus", "zumpus")
EXAMPLES = [
    {"question": f"Every {kind} is loud. {name} is a {kind}. Prove: {name} is loud.", "chain": f"{name} is a {kind}."}
    for name in NAMES
    for kind in KINDS
]
HELD_OUT = [{"question": f"Alex is a {kind}. Prove: Alex is loud.", "chain": f"Alex is a {kind}."} for kind in KINDS]
RECIPE = {
    "model": "deductor-5k-base",
    "validation": HELD_OUT,
    "batch_size": 8,
    "max_steps": 10,
    "evaluate_every": 2,
    "learning_rate": 3e-3,
    "warmup": 0.2,
    "keep": "all",
    "progress": False,
}
RECIPES: dict[str, dict[str, Any]] = {
    "full": {},
    "lora": {"lora": {"rank": 1, "dropout": 0.1, "roles": ("q_proj", "down_proj")}},
    "packed": {"layout": "pack", "context": 64, "batch_size": 2, "loss_on": "everything"},
    "accumulated": {"device_batch_size": 2, "schedule": "cosine", "rule": "last within"},
    "part": {"train": ("o_proj", "norm"), "checkpoint_every": 3, "rule": "last"},
}


def train(out: Path, **settings: Any) -> Trained:
    given = {**RECIPE, **settings}
    return ck.train(given.pop("model"), EXAMPLES, out=out, **given)


def killed(out: Path, at: Callable[[], None], **settings: Any) -> None:
    """Train in a process of its own, in which `at` sets the trap that kills it."""
    child = os.fork()
    if child == 0:
        try:
            at()
            train(out, **settings)
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, "it was not killed"


def at_call(of: Any, name: str, number: int) -> Callable[[], None]:
    """The trap that kills when a function is called for a certain time, before it does anything."""
    original, calls = getattr(of, name), [0]

    def counted(*args: Any, **settings: Any) -> Any:
        calls[0] += 1
        if calls[0] == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **settings)

    return lambda: setattr(of, name, counted)


# A kill in a step, before its checkpoint, within it, once it is written but not in place, and while pruning.
MOMENTS: dict[str, tuple[Any, str, int]] = {
    "first step": (transformers.Trainer, "training_step", 1),
    "within an epoch": (transformers.Trainer, "training_step", 6),
    "first step of an epoch": (transformers.Trainer, "training_step", 7),
    "validation": (transformers.Trainer, "evaluate", 3),
    "within a checkpoint": (transformers.Trainer, "_save_optimizer_and_scheduler", 2),
    "before it is in place": (checkpoints, "_put", 2),
    "before pruning": (checkpoints, "prune", 3),
    "within pruning": (checkpoints.shutil, "rmtree", 4),
    "all steps done": (ck.records.os, "replace", 1),
}


def state(trained: Trained) -> dict[str, str]:
    """What two trainings that are equal bit for bit have in common, as digests."""
    found = {
        "curve": trained.curve.to_csv(),
        "written curve": (trained.folder / "curve.csv").read_text(),
        "chosen": str(trained.chosen),
        "checkpoints": str(list(trained.checkpoints)),
        "model": hashlib.sha256((trained.folder / "model" / "model.safetensors").read_bytes()).hexdigest(),
    }
    last = checkpoints.last(trained.folder / "checkpoints")
    assert last is not None
    for path in last.iterdir():
        if path.suffix in (".safetensors", ".pt", ".pth"):
            found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found
