"""Group relative policy optimisation on trl's trainer, with a task's judge as the reward.

Source: Shao et al. 2024 (arXiv 2402.03300); token-level loss: Yu et al. 2025 (arXiv 2503.14476).
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from accelerate.utils import gather_object
from datasets import Dataset
from tqdm import tqdm
from transformers import PrinterCallback
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from circuitkit.training import checkpoints
from circuitkit.training.errors import TrainingError
from circuitkit.training.resuming import Durable
from circuitkit.training.rollouts import Rollout, Rollouts
from circuitkit.training.trainer import Sound

if TYPE_CHECKING:
    from transformers import TrainerCallback

_LEAST_GROUP = 2


def arguments(
    shared: Mapping[str, Any],
    *,
    group: int,
    temperature: float,
    beta: float,
    max_new_tokens: int,
    updates: int = 1,
    clip_ratio: float = 0.2,
    scale_rewards: str = "group",
    loss: str = "dapo",
) -> GRPOConfig:
    """trl's settings of a run: those that any training has, and those of GRPO.

    Args:
        shared: settings that `transformers.TrainingArguments` takes too; a step's batch counts responses.
        group: responses to each prompt, which are compared with one another.
        temperature: what logits are divided by, both where tokens are drawn and in the loss.
        beta: weight of the KL divergence from the model as it was at the start.
        max_new_tokens: most tokens of a response.
        updates: steps that are taken on the same responses.
        clip_ratio: how far a token's probability ratio may stray from 1 and still be followed.
        scale_rewards: "group" divides an advantage by its group's standard deviation, "batch" by the batch's, "none"
            leaves it.
        loss: trl's name of how tokens are averaged: "dapo" over all of the step's tokens alike, "grpo" over each
            response first, "dr_grpo" by a constant.

    Raises:
        TrainingError: a step's responses are no whole number of groups, or a group has one response.
    """
    a_step = int(shared["per_device_train_batch_size"]) * int(shared.get("gradient_accumulation_steps", 1))
    if group < _LEAST_GROUP:
        raise TrainingError(f"a group of {group} has nothing to be compared with: give 2 responses or more")
    if beta < 0:
        raise TrainingError(f"beta {beta} would drive the model away from what it was: give 0 or more")
    settings: dict[str, Any] = {
        **shared,
        "num_generations": group,
        "num_generations_eval": 1,
        "temperature": temperature,
        "beta": beta,
        "max_completion_length": max_new_tokens,
        "num_iterations": updates,
        "epsilon": clip_ratio,
        "scale_rewards": scale_rewards,
        "loss_type": loss,
        "remove_unused_columns": False,
    }
    try:
        return GRPOConfig(**settings)
    except ValueError as error:
        if "divisible" not in str(error):
            raise
        raise TrainingError(
            f"a step on one device has {a_step} responses, which groups of {group} do not fill: give a batch size that "
            f"is a multiple of {group} (it counts responses, not prompts)"
        ) from error


class JudgedTrainer(Durable, Sound, GRPOTrainer):
    """trl's GRPO trainer, whose responses are written and judged as `ck.evaluate` does it.

    It differs in four things. Responses come of `Rollouts`. Validation is the mean reward of the greedy responses to
    all held-out items, each counted once, logged as `eval_reward`, beside `eval_accuracy`, the share that the judge
    finds right. The reference of the KL divergence is the model as it was given, whatever name it bears. And nothing is
    sent or written anywhere but checkpoints. `go_on` trains; `release` takes away what trl puts on a model.

    Args:
        rollouts: of the items that the model learns from.
        arguments: from `arguments`.
        validation: of the held-out items.
        model: what is trained: the rollouts' own model if None, or a PEFT model around it.
        callbacks: as of `transformers.Trainer`.
        progress: show a bar while held-out items are asked.

    Raises:
        TrainingError: a step asks more prompts than there are items, or the model is sharded among processes.
    """

    def __init__(
        self,
        rollouts: Rollouts,
        arguments: GRPOConfig,
        *,
        validation: Rollouts | None = None,
        model: Any = None,
        callbacks: Sequence[TrainerCallback] = (),
        progress: bool = False,
    ) -> None:
        _check(rollouts, arguments)
        self.rollouts, self.validation, self._progress = rollouts, validation, progress
        self._before = _Before(rollouts.model.anatomy.root)
        trained = rollouts.model.hf if model is None else model
        beta = arguments.beta
        with ExitStack() as stack:
            if hasattr(trained, "peft_config"):
                # trl would add a second adapter as the reference; without one, it turns the only one off.
                arguments.beta = 0.0
            elif beta:
                stack.enter_context(_named_by_its_weights(trained))
            # The way to write responses of one's own is there, and trl warns that it may change.
            stack.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", message="You are using 'rollout_func'", category=UserWarning)
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
            super().__init__(
                model=trained,
                reward_funcs=_earned_by(rollouts.reward.name),
                args=arguments,
                train_dataset=_dataset(rollouts),
                eval_dataset=None if validation is None else _dataset(validation),
                processing_class=rollouts.model.tokenizer,
                callbacks=list(callbacks),
                rollout_func=_written,
            )
        self.beta = arguments.beta = beta
        self.remove_callback(PrinterCallback)

    def go_on(self) -> None:
        """Train to the end, from the last whole checkpoint where there is one.

        Raises:
            TrainingError: as `Durable.go_on`; or no response of any step earned anything else than the others of its
                group.
        """
        with warnings.catch_warnings():
            # trl asks by a name that transformers is about to take away.
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
            super().go_on()

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Ask the held-out items, log what they earn, and return it.

        Raises:
            TrainingError: there are none.
        """
        if self.validation is None:
            raise TrainingError("there are no held-out items to validate on: give validation")
        found = self._held_out(self.validation)
        metrics = {
            f"{metric_key_prefix}_reward": fmean(each.reward for each in found),
            f"{metric_key_prefix}_accuracy": fmean(each.right for each in found),
            f"{metric_key_prefix}_truncated": fmean(each.truncated for each in found),
        }
        # trl tells validation from training by the model's mode.
        trained: Any = self.model
        trained.eval()
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _held_out(self, rollouts: Rollouts) -> list[Rollout]:
        """The greedy responses to all items, each process writing its part."""
        mine = rollouts.keys[self.accelerator.process_index :: self.accelerator.num_processes]
        bar = tqdm(total=len(mine), disable=not self._progress, unit="response", desc="validation", leave=False)
        with bar:
            found = rollouts.likeliest(mine, each_time=bar.update) if mine else []
        everyones: list[Rollout] = gather_object(found)
        return everyones

    def release(self) -> None:
        """Take away what trl put on the model: a forward of its own, and settings of padding."""
        self._before.put_back()

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: a run's folder says itself what it holds."""

    def _send_telemetry(self) -> None:
        """Nothing: a training is nobody else's business."""


def _written(keys: list[str], trainer: Any) -> dict[str, Any]:
    """The responses of a step, in the form that trl takes: its prompts are the items' keys."""
    process, step = trainer.accelerator.process_index, trainer.state.global_step
    try:
        found = trainer.rollouts.drawn(keys, step, first=process * len(keys))
    except TrainingError as error:
        raise checkpoints.diverged(Path(str(trainer.args.output_dir)), step + 1, str(error)) from error
    return {
        "prompt_ids": [list(each.prompt) for each in found],
        "completion_ids": [list(each.ids) for each in found],
        "logprobs": None,
        "reward": [each.reward for each in found],
    }


def _earned_by(judge: str) -> Callable[..., list[float | None]]:
    """The rewards that responses came with, as a function of the judge's name, by which trl logs them."""

    def earned(reward: Sequence[float], **_: Any) -> list[float | None]:
        return list(reward)

    earned.__name__ = judge
    return earned


def _dataset(rollouts: Rollouts) -> Dataset:
    return Dataset.from_dict({"prompt": list(rollouts.keys)})


def _check(rollouts: Rollouts, arguments: GRPOConfig) -> None:
    responses = int(arguments.generation_batch_size or 0)
    prompts = responses // int(arguments.num_generations or 1)
    if prompts > len(rollouts.keys):
        raise TrainingError(
            f"a step asks {prompts} prompts ({responses} responses in groups of {arguments.num_generations}), and "
            f"there are {len(rollouts.keys)} items: give more items, or a smaller batch"
        )
    if arguments.fsdp or arguments.deepspeed or rollouts.model.group is not None:
        raise TrainingError(
            "the model is sharded among processes, and responses are written by a process that holds all of it: train "
            "by GRPO without FSDP, DeepSpeed or a tp_plan (several processes with a whole model each are fine)"
        )


@contextmanager
def _named_by_its_weights(model: Any) -> Iterator[None]:
    """Let a model bear the name of a folder that holds its weights: trl loads the reference by the name."""
    before = model.config._name_or_path
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        model.config._name_or_path = folder
        try:
            yield
        finally:
            model.config._name_or_path = before


class _Before:
    """What of a model trl changes, as it was."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self.forward = vars(root).get("forward")
        self.tags = copy(root.model_tags) if getattr(root, "model_tags", None) is not None else None
        self.configs = [root.config.get_text_config(), root.generation_config]
        self.pads = [config.pad_token_id for config in self.configs]

    def put_back(self) -> None:
        vars(self.root).pop("forward", None)
        if self.forward is not None:
            self.root.forward = self.forward
        self.root.model_tags = self.tags
        for config, pad in zip(self.configs, self.pads, strict=True):
            config.pad_token_id = pad
