"""What a training learns from, by its method: read, checked, and given to the trainer that learns from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from circuitkit.evaluation.settings import weights_told
from circuitkit.model import Model, load
from circuitkit.tasks.task import Task
from circuitkit.training import template
from circuitkit.training.distillation import Teacher
from circuitkit.training.errors import TrainingError
from circuitkit.training.examples import Data, Example, check_apart, counted, divided, examples_of, hash_of
from circuitkit.training.layout import rows_of
from circuitkit.training.recipe import Recipe
from circuitkit.training.trainer import SupervisedTrainer

if TYPE_CHECKING:
    from transformers import TrainerCallback


class Material(Protocol):
    """What a training learns from.

    Attributes:
        recipe: with what the data decide filled in.
        rows: how many make an epoch, as a batch counts them.
        validated: whether there is a validation set.
        told: what identifies the data, as JSON, with "data".
        examples: "n" and "sha256" of what is trained on, and of the validation set.
    """

    recipe: Recipe
    rows: int
    validated: bool
    told: Mapping[str, Any]
    examples: Mapping[str, Any]

    def trainer(self, hf: Any, arguments: Mapping[str, Any], callbacks: Sequence[TrainerCallback]) -> Any:
        """The trainer of a model, or of a peft model around it, with a method `go_on`."""
        ...

    def release(self, trainer: Any) -> None:
        """Take away what the trainer put on the model."""
        ...


def of(
    model: Model,
    data: Data,
    validation: Data | float | None,
    recipe: Recipe,
    *,
    teacher: Model | str | Path | None,
    fields: Mapping[str, str] | None,
    progress: bool,
) -> Material:
    """What the recipe's method learns from these data.

    Raises:
        TrainingError: they are not what it needs.
    """
    if (recipe.method == "distil") != (teacher is not None):
        raise TrainingError(
            "method='distil' learns from a teacher: give one"
            if teacher is None
            else f"a teacher is of method='distil', and the method is {recipe.method!r}"
        )
    if recipe.method == "grpo":
        # trl takes seconds to import, and the other methods do without it.
        from circuitkit.training.judged import Judged

        return Judged(model, data, validation, recipe, progress=progress)
    return Supervised(model, data, validation, recipe, teacher=teacher, fields=fields)


class Supervised:
    """Examples as rows of tokens, for learning them or a teacher's distribution over them."""

    def __init__(
        self,
        model: Model,
        data: Data,
        validation: Data | float | None,
        recipe: Recipe,
        *,
        teacher: Model | str | Path | None,
        fields: Mapping[str, str] | None,
    ) -> None:
        defaulted = recipe.template is None
        if defaulted and recipe.text == "plain":
            # A task's question ends where the answer is to begin.
            recipe = recipe.but(template=template.TASK if isinstance(data, Task) else template.PLAIN)
        self.recipe = recipe
        self._model = model
        examples = examples_of(data, fields)
        if defaulted:
            _check_answers(examples)
        held_out: tuple[Example, ...] = ()
        if isinstance(validation, float | int):
            examples, held_out = divided(examples, validation, recipe.seed)
        elif validation is not None:
            held_out = examples_of(validation, fields)
        check_apart(examples, held_out)
        self._rows = rows_of(examples, recipe, model.tokenizer, model.context)
        self._validation = rows_of(held_out, recipe, model.tokenizer, model.context, "validation") if held_out else None
        self._teacher = _ready(teacher, model, recipe)
        self.rows, self.validated = len(self._rows), self._validation is not None
        self.told: Mapping[str, Any] = {"data": hash_of(examples), "validation": hash_of(held_out)}
        if self._teacher is not None:
            self.told = {**self.told, "teacher": weights_told(self._teacher.model)}
        self.examples: Mapping[str, Any] = counted(examples, held_out)

    def trainer(self, hf: Any, arguments: Mapping[str, Any], callbacks: Sequence[TrainerCallback]) -> SupervisedTrainer:
        """The trainer of a model, or of a peft model around it."""
        return SupervisedTrainer(
            hf,
            arguments,
            self._rows,
            validation=self._validation,
            tokenizer=self._model.tokenizer,
            recipe=self.recipe,
            teacher=self._teacher,
            callbacks=list(callbacks),
        )

    def release(self, trainer: Any) -> None:
        """Nothing is put on a model."""


def _check_answers(examples: Sequence[Example]) -> None:
    """Refuse to leave answers out that nobody said are to be left out."""
    if answered := sum(bool(example.answer.strip()) for example in examples):
        raise TrainingError(
            f"{answered} of {len(examples)} examples have an answer apart from their chain, which the default template "
            "has no place for: give a template with {answer}, or one without it to leave answers out"
        )


def _ready(teacher: Model | str | Path | None, model: Model, recipe: Recipe) -> Teacher | None:
    if teacher is None:
        return None
    found = Teacher(teacher if isinstance(teacher, Model) else load(teacher), recipe.temperature, recipe.hard)
    found.ready(model)
    return found
