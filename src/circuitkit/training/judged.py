"""What GRPO learns from: a task's questions, and its judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuitkit.model import Model
from circuitkit.tasks.loading import load as load_task
from circuitkit.tasks.task import Task
from circuitkit.training import grpo
from circuitkit.training.errors import TrainingError
from circuitkit.training.examples import Data, Example, check_apart, counted, divided, hash_of
from circuitkit.training.groups import NoSignal
from circuitkit.training.recipe import Recipe
from circuitkit.training.rewards import Reward
from circuitkit.training.rollouts import Rollouts

if TYPE_CHECKING:
    from transformers import TrainerCallback

_OF_TEXTS = ("template", "system")


class Judged:
    """A task's questions, asked of the model that is trained, and its judge.

    It is what `material.Material` describes.

    Raises:
        TrainingError: the data are no task, the validation set asks what is trained on, or a setting does not fit.
    """

    def __init__(
        self, model: Model, data: Data, validation: Data | float | None, recipe: Recipe, *, progress: bool
    ) -> None:
        self.recipe, self._progress = recipe, progress
        _check(recipe)
        task, held_out = _tasks(data, validation, recipe)
        self._rollouts = _rollouts(model, task, recipe)
        self._validation = None if held_out is None else _rollouts(model, held_out, recipe)
        a_step = max(1, recipe.batch_size // recipe.group)
        # A step's groups are filled with questions that differ, and those that are left over wait for the next epoch.
        self.rows = max(1, len(task.items) // a_step) * recipe.batch_size * recipe.updates
        self.validated = held_out is not None
        self.told: Mapping[str, Any] = {
            "data": hash_of(_asked(self._rollouts, task)),
            "validation": "" if self._validation is None else hash_of(_asked(self._validation, held_out or task)),
            "task": {"name": task.name, "judge": self._rollouts.reward.name, "stop": list(task.stop)},
        }
        self.examples: Mapping[str, Any] = counted(_questions(task), [] if held_out is None else _questions(held_out))

    def trainer(
        self, hf: Any, arguments: Mapping[str, Any], callbacks: Sequence[TrainerCallback]
    ) -> grpo.JudgedTrainer:
        """The trainer of the model, or of a peft model around it."""
        recipe = self.recipe
        if int(arguments["save_steps"]) % recipe.updates:
            raise TrainingError(
                f"checkpoints every {arguments['save_steps']} steps fall between the {recipe.updates} updates on the "
                "same responses, and a run could not go on from them: give a multiple"
            )
        trainer = grpo.JudgedTrainer(
            self._rollouts,
            grpo.arguments(
                arguments,
                group=recipe.group,
                temperature=recipe.temperature,
                beta=recipe.beta,
                max_new_tokens=self._rollouts.max_new_tokens,
                updates=recipe.updates,
                clip_ratio=recipe.clip_ratio,
                scale_rewards=recipe.scale_rewards,
            ),
            validation=self._validation,
            model=hf,
            callbacks=[*callbacks, NoSignal(recipe.patience)],
            progress=self._progress,
        )
        trainer.keep, trainer.margin = recipe.keep, recipe.margin
        return trainer

    def release(self, trainer: Any) -> None:
        """Take away what trl put on the model."""
        trainer.release()


def _check(recipe: Recipe) -> None:
    for name in _OF_TEXTS:
        if getattr(recipe, name) is not None:
            raise TrainingError(f"{name} is of texts that are learnt, and GRPO asks a task's own prompts: leave it out")
    if recipe.lora is not None and "lm_head" in recipe.lora.roles:
        raise TrainingError(
            "trl's GRPO reads the unembedding's own weights, so that an adapter on lm_head would not learn: take it out"
        )


def _tasks(data: Data, validation: Data | float | None, recipe: Recipe) -> tuple[Task, Task | None]:
    """The task that is trained on and the one that is held out."""
    task = _task(data, "data")
    if validation is None:
        return task, None
    if isinstance(validation, float | int):
        trained, kept = divided(_questions(task), validation, recipe.seed)
        check_apart(trained, kept)
        return task.only([each.key for each in trained]), task.only([each.key for each in kept])
    held_out = _task(validation, "validation")
    check_apart(_questions(task), _questions(held_out))
    return task, held_out


def _task(data: Any, what: str) -> Task:
    if isinstance(data, Task):
        return data
    if isinstance(data, str | Path):
        return load_task(str(data))
    raise TrainingError(
        f"{what} is a {type(data).__name__}, and GRPO asks a task, whose judge rewards: give a Task, or what "
        "circuitkit.tasks.load takes"
    )


def _rollouts(model: Model, task: Task, recipe: Recipe) -> Rollouts:
    return Rollouts(
        model,
        Reward(task, recipe.judge, recipe.partial),
        temperature=recipe.temperature,
        max_new_tokens=recipe.max_new_tokens,
        shots=recipe.shots,
        chat=recipe.text == "chat",
        context=recipe.context,
        seed=recipe.seed,
    )


def _questions(task: Task) -> list[Example]:
    return [Example(item.question, item.gold, key=item.key) for item in task.items]


def _asked(rollouts: Rollouts, task: Task) -> list[Example]:
    """What is asked, exemplars and chat template and all."""
    return [Example(rollouts.prompt(item.key), item.gold) for item in task.items]
