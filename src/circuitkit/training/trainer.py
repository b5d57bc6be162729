"""Transformers' trainer, as this package trains: its own loss, exact over any batch, and no step on a spoiled one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from circuitkit.training import checkpoints
from circuitkit.training.distillation import Teacher
from circuitkit.training.distributed import Even, any_of_them, on_cpu, share
from circuitkit.training.layout import Collator, Rows
from circuitkit.training.losses import cross_entropy
from circuitkit.training.recipe import Every, Recipe
from circuitkit.training.resuming import Durable


def shared_arguments(recipe: Recipe, rows: int, folder: Path, *, validated: bool) -> dict[str, Any]:
    """The settings that transformers' and trl's trainers have in common.

    Args:
        recipe: of the training.
        rows: examples, or rows, of an epoch.
        folder: of all checkpoints.
        validated: whether there is a validation set.

    Raises:
        TrainingError: the batch cannot be shared among the processes.
    """
    mine = share(recipe.batch_size, recipe.device_batch_size)
    epoch = -(-rows // recipe.batch_size)
    steps = recipe.max_steps or math.ceil(recipe.epochs * epoch)
    evaluate_every = _in_steps(recipe.evaluate_every, epoch)
    return {
        "output_dir": str(folder),
        "max_steps": steps,
        "per_device_train_batch_size": mine.rows,
        "per_device_eval_batch_size": mine.rows,
        "gradient_accumulation_steps": mine.times,
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": recipe.schedule if recipe.schedule != "constant" else "constant_with_warmup",
        "warmup_steps": math.ceil(recipe.warmup * steps),
        "weight_decay": recipe.weight_decay,
        "adam_beta1": recipe.betas[0],
        "adam_beta2": recipe.betas[1],
        "max_grad_norm": recipe.clip,
        "bf16": recipe.dtype == "bfloat16",
        "activation_checkpointing": recipe.gradient_checkpointing,
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "logging_strategy": "steps",
        "logging_steps": recipe.log_every,
        "logging_nan_inf_filter": False,
        "eval_strategy": "steps" if validated else "no",
        "eval_steps": evaluate_every,
        "eval_on_start": validated,
        "save_strategy": "steps",
        "save_steps": _in_steps(recipe.saved_every, epoch),
        "save_total_limit": None,
        "load_best_model_at_end": False,
        "disable_tqdm": True,
        "report_to": "none",
        "use_cpu": on_cpu(),
        "log_level": "error",
        "log_level_replica": "error",
        "dataloader_pin_memory": torch.cuda.is_available(),
    }


def _in_steps(every: Every, epoch: int) -> int:
    return epoch if every == "epoch" else int(every)


class Sound(Trainer):
    """A trainer that stops at a loss that is no finite number, before the step is taken.

    Stands before `transformers.Trainer`, or a trainer made from it, among a trainer's bases.
    """

    def training_step(self, *args: Any, **settings: Any) -> Tensor:
        """Transformers' own, and a look at the loss.

        Raises:
            TrainingError: the loss is NaN or infinite; the step and the last good checkpoint are named.
        """
        loss = super().training_step(*args, **settings)
        finite = bool(torch.isfinite(loss).all())
        if any_of_them(not finite):
            how = "no finite number in another process" if finite else f"{loss.item():g}"
            folder = Path(str(self.args.output_dir))
            raise checkpoints.diverged(folder, self.state.global_step + 1, f"the loss is {how}")
        return loss

    def evaluate(self, *args: Any, **settings: Any) -> dict[str, float]:
        """Transformers' own, which draws random numbers that dropout would draw next: they are put back."""
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            return super().evaluate(*args, **settings)


class SupervisedTrainer(Durable, Even, Sound, Trainer):
    """Learns given tokens, or a teacher's distribution over them.

    The loss of a step is the mean over all of its tokens that carry one, whatever the batches that they come in.

    Args:
        model: a causal LM, or a peft model around one.
        arguments: from `shared_arguments`.
        rows: what is learnt.
        validation: rows of the validation set, if any.
        tokenizer: the model's, which is kept with each checkpoint.
        recipe: of the training.
        teacher: for distillation.
        callbacks: as of `transformers.Trainer`.
    """

    def __init__(
        self,
        model: Any,
        arguments: Mapping[str, Any],
        rows: Rows,
        *,
        validation: Rows | None = None,
        tokenizer: Any = None,
        recipe: Recipe,
        teacher: Teacher | None = None,
        callbacks: list[TrainerCallback] | None = None,
    ) -> None:
        super().__init__(
            model=model,
            args=TrainingArguments(**arguments, remove_unused_columns=False, label_names=["labels"]),
            data_collator=Collator(_padding(tokenizer)),
            train_dataset=rows,
            eval_dataset=validation,
            callbacks=callbacks,
        )
        # Transformers then counts a step's tokens and leaves the division by them to this class.
        self.model_accepts_loss_kwargs = True
        self.keep, self.margin, self._teacher = recipe.keep, recipe.margin, teacher
        # Transformers would write a tokenizer of its own into the model's settings.
        self._tokenizer = tokenizer
        self.remove_callback(PrinterCallback)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The loss of a batch's tokens, in nats, summed and divided by how many the whole step has."""
        read = {name: value for name, value in inputs.items() if name != "labels"}
        outputs = model(**read)
        if self._teacher is not None:
            loss = self._teacher.loss(outputs.logits, inputs, num_items_in_batch)
        else:
            loss = cross_entropy(outputs.logits, inputs["labels"], num_items_in_batch)
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            loss = loss * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        if self._tokenizer is not None and output_dir is not None and self.args.should_save:
            self._tokenizer.save_pretrained(output_dir)


def _padding(tokenizer: Any) -> int:
    """A token that fills rows up; which one makes no difference, as it is masked."""
    found = (getattr(tokenizer, name, None) for name in ("pad_token_id", "eos_token_id"))
    return next((each for each in found if each is not None), 0)
