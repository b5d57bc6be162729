"""Which checkpoint of a training is the one to use: rules by name over the validation losses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, get_args

from circuitkit.training.errors import TrainingError

Rule = Literal["best", "last within", "last"]
Keep = Literal["choosable", "any margin", "all"]


def choose(
    steps: Sequence[int],
    losses: Sequence[float | None] | None,
    rule: Rule,
    margin: float = 0.1,
) -> int:
    """The step of the checkpoint that a rule chooses.

    "best" takes the lowest validation loss, the first of equal ones, as early stopping by hand does; "last within"
    the last checkpoint whose loss is at most `margin` above the lowest; "last" the last, whatever the losses.
    Source of "last within": Reasoning Elicitation is Scale Dependent, NeurIPS 2025 workshop (margin 0.1).

    Args:
        steps: the checkpoints' steps, rising.
        losses: their validation losses in nats a token; None where one was not measured, or in place of all.
        rule: by name.
        margin: of "last within", in nats a token.

    Raises:
        TrainingError: no such rule; no checkpoint; a margin below zero; steps that do not rise; no validation loss for
            a rule that compares them; a loss that is no finite number.

    >>> choose([10, 20, 30, 40], [1.30, 0.90, 0.95, 1.20], "last within"), choose([10, 20], [0.9, 1.0], "best")
    (30, 10)
    """
    check(rule, margin)
    _check_steps(steps, losses)
    if rule == "last":
        return steps[-1]
    measured = [(step, loss) for step, loss in zip(steps, losses or (), strict=bool(losses)) if loss is not None]
    if not measured:
        raise TrainingError(
            f"the rule {rule!r} compares validation losses, and none was measured: give a validation set, or choose "
            "the rule 'last'"
        )
    lowest = min(loss for _, loss in measured)
    if rule == "best":
        return next(step for step, loss in measured if loss == lowest)
    return max(step for step, loss in measured if loss <= lowest + margin)


def kept(
    steps: Sequence[int],
    losses: Sequence[float | None] | None,
    margin: float = 0.1,
    keep: Keep = "choosable",
) -> set[int]:
    """The steps of the checkpoints that a rule may still choose once the training has gone on, and the last of all.

    With a fixed margin these are the ones that the rules choose now, three at most: whatever comes later, each rule
    goes on choosing the same or chooses a later one. With "any margin" they are those that no later one equals or
    betters (the Pareto set of lateness and loss), so that "last within" may be asked again with another margin.

    Args:
        steps, losses, margin: as for `choose`.
        keep: "choosable", "any margin", or "all".

    Raises:
        TrainingError: as for `choose`, or no such `keep`.

    >>> sorted(kept([10, 20, 30, 40, 50], [1.3, 0.9, 0.92, 0.95, 1.2]))
    [20, 40, 50]
    >>> sorted(kept([10, 20, 30, 40, 50], [1.3, 0.9, 0.92, 0.95, 1.2], keep="any margin"))
    [20, 30, 40, 50]
    """
    if keep not in get_args(Keep):
        raise TrainingError(f"keep is one of {_named(get_args(Keep))}, not {keep!r}")
    check("last", margin)
    _check_steps(steps, losses)
    if keep == "all":
        return set(steps)
    staying = {steps[-1]}
    if losses is None or all(loss is None for loss in losses):
        return staying
    staying.add(choose(steps, losses, "best"))
    if keep == "choosable":
        return staying | {choose(steps, losses, "last within", margin)}
    lowest_later = math.inf
    for step, loss in zip(reversed(steps), reversed(losses), strict=True):
        if loss is not None and loss < lowest_later:
            staying.add(step)
            lowest_later = loss
    return staying


def check(rule: str, margin: float) -> None:
    """Refuse a rule that is not there, or a margin that is no finite number from zero on.

    Raises:
        TrainingError: it is one of these.
    """
    if rule not in get_args(Rule):
        raise TrainingError(f"there is no checkpoint rule {rule!r}: choose one of {_named(get_args(Rule))}")
    if not (math.isfinite(margin) and margin >= 0):
        raise TrainingError(f"margin is a number of nats from 0 on, not {margin}")


def _check_steps(steps: Sequence[int], losses: Sequence[float | None] | None) -> None:
    if not steps:
        raise TrainingError("there is no checkpoint to choose from: train for at least checkpoint_every steps")
    for before, after in pairwise(steps):
        if after <= before:
            raise TrainingError(f"checkpoints are given in the order of their steps, and {after} comes after {before}")
    if losses is None:
        return
    if len(losses) != len(steps):
        raise TrainingError(f"each checkpoint has one validation loss, and {len(losses)} came for {len(steps)}")
    for step, loss in zip(steps, losses, strict=True):
        if loss is not None and not math.isfinite(loss):
            raise TrainingError(
                f"the validation loss of the checkpoint at step {step} is {loss}, and no rule can compare it: the "
                "training diverged there; lower the learning rate, or leave that checkpoint out"
            )


def _named(names: tuple[str, ...]) -> str:
    return ", ".join(repr(name) for name in names)
