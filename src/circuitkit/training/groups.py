"""Whether the rewards of a group differ: where they don't, GRPO has nothing to learn from, and that is said."""

from __future__ import annotations

import warnings
from itertools import takewhile
from typing import Any

from transformers import TrainerCallback

from circuitkit.training.errors import TrainingError

_NO_SPREAD = "frac_reward_zero_std"


class NoSignal(TrainerCallback):
    """Says so where the rewards within every group have been the same for a while; stops where there never was any.

    A group's advantages are differences from its mean reward, so that equal rewards move no weight. It may be that no
    response is ever right, that all are, or that they hardly vary.

    Args:
        patience: steps in a row without a difference within any group, after which it is said.

    Raises:
        TrainingError: there was no difference from the first step on; what the rewards were is told, and what to do.
    """

    def __init__(self, patience: int) -> None:
        if patience < 1:
            raise TrainingError(f"{patience} steps without a signal are none to wait for: give 1 or more")
        self.patience = patience

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Look at the steps so far, those before a resume among them."""
        if not logs or logs.get(_NO_SPREAD) is None:
            return
        shares = [told[_NO_SPREAD] for told in state.log_history if told.get(_NO_SPREAD) is not None]
        equal = len(list(takewhile(lambda share: share == 1, reversed(shares))))
        # What is logged is the mean over the steps since the last time.
        patience = -(-self.patience // max(1, int(args.logging_steps)))
        if equal == 0 or equal % patience:
            return
        reward = float(logs["reward"])
        told = (
            f"the rewards in every group have been equal for {equal * int(args.logging_steps)} steps (mean {reward:g}, "
            f"step {state.global_step}), so that no weight moves: {_what_to_do(reward)}"
        )
        if equal == len(shares):
            raise TrainingError(told)
        warnings.warn(told, stacklevel=2)


def _what_to_do(reward: float) -> str:
    if reward <= 0:
        return (
            "no response is right. Ask easier items, draw more responses a group or at a higher temperature, give "
            "partial credit, or train on examples first"
        )
    if reward >= 1:
        return "every response is right, and nothing is left to learn. Ask harder items, or stop"
    return "all responses to a prompt earn the same. Draw at a higher temperature, or more responses a group"
