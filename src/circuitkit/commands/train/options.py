"""The settings of a training as options; what is not given is the preset's."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from circuitkit.commands.options import Numbers, Words, assigned

if TYPE_CHECKING:
    from circuitkit.tasks.task import Task

_DATA = Group("Data", sort_key=1)
_STEPS = Group("Steps", sort_key=2)
_TEXT = Group("Text", sort_key=3)
_PART = Group("What is trained", sort_key=4)
_KEPT = Group("Checkpoints", sort_key=5)
_METHODS = Group("Distillation and GRPO", sort_key=6)
_ADAPTER = {"lora": "rank", "lora_alpha": "alpha", "lora_dropout": "dropout", "lora_roles": "roles"}


@Parameter(name="*")
@dataclass(frozen=True)
class From:
    """What is learnt from."""

    data: Annotated[Path | None, Parameter(group=_DATA)] = None
    """Examples as JSON lines, such as {"question": "Every wumpus is a dumpus. …", "chain": "Alex is a wumpus. …"}."""

    task: Annotated[str | None, Parameter(group=_DATA)] = None
    """A task instead, such as prontoqa/implication_elimination/2: its questions with their gold answers, or, for GRPO,
    its questions and its judge."""

    limit: Annotated[int | None, Parameter(group=_DATA)] = None
    """The first questions of the task alone; all if not given."""

    field: Annotated[list[str] | None, Parameter(group=_DATA, negative="", consume_multiple=True)] = None
    """What a file calls the parts of an example, such as question=prompt chain=trace answer=attempt."""

    validation: Annotated[str | None, Parameter(group=_DATA)] = None
    """Held-out examples: a share such as 0.1, a file, or a task; without any, the last checkpoint is taken."""

    teacher: Annotated[str | None, Parameter(group=_DATA)] = None
    """For --method distil: the larger model that is learnt from, of the same vocabulary."""

    def examples(self, shots: int | None = None) -> Path | Task:
        """What is trained on.

        Args:
            shots: exemplars before each question of a task; as many as it wants if None.

        Raises:
            TaskError: there is no such task, or it has fewer exemplars.
            ValueError: not one of a file and a task is given, or a file with what is a task's.

        >>> From(task="prontoqa/implication_elimination/2", limit=5).examples().name
        'prontoqa/implication_elimination/2'
        """
        if (self.data is None) == (self.task is None):
            raise ValueError("give --data FILE or --task NAME, one of the two, to train on")
        if self.data is not None:
            if self.limit is not None:
                raise ValueError("--limit is of --task: a file is trained on as a whole")
            if shots is not None:
                raise ValueError("--shots is of --task: a file's examples are trained on as they are")
            return self.data
        asked = _loaded(str(self.task), shots)
        return asked if self.limit is None else asked.first(self.limit)

    def held_out(self, shots: int | None = None) -> float | Path | Task | None:
        """What is validated on.

        Args:
            shots: as of `examples`.

        Raises:
            TaskError: there is no such file, and no such task, or it has fewer exemplars.

        >>> From(validation="0.1").held_out()
        0.1
        """
        if self.validation is None:
            return None
        try:
            return float(self.validation)
        except ValueError:
            pass
        path = Path(self.validation)
        if path.suffix == ".jsonl" or path.is_file():
            return path
        return _loaded(self.validation, shots)

    def parts(self) -> dict[str, str] | None:
        """What a file calls the parts of an example.

        Raises:
            ValueError: a part is not written PART=NAME.

        >>> From(field=["chain=trace"]).parts()
        {'chain': 'trace'}
        """
        return None if self.field is None else assigned(self.field, "--field", "PART=NAME", "chain=trace")


@Parameter(name="*")
@dataclass(frozen=True)
class Settings:
    """How it is learnt."""

    shots: Annotated[int | None, Parameter(group=_DATA)] = None
    """Exemplars before each question of a task; as many as the task wants if not given."""

    method: Annotated[Literal["supervised", "distil", "grpo"] | None, Parameter(group=_STEPS)] = None
    """supervised: the texts. distil: a teacher's distribution on them. grpo: what the task's judge finds right.
    supervised without a preset."""

    learning_rate: Annotated[float | None, Parameter(group=_STEPS)] = None
    """The peak; 1e-5 without a preset."""

    epochs: Annotated[float | None, Parameter(group=_STEPS)] = None
    """Passes over the examples; 3 without a preset."""

    max_steps: Annotated[int | None, Parameter(group=_STEPS)] = None
    """Steps of the optimizer, instead of epochs."""

    batch_size: Annotated[int | None, Parameter(group=_STEPS)] = None
    """Examples a step (GRPO: responses), over all processes; 16 without a preset."""

    device_batch_size: Annotated[int | None, Parameter(group=_STEPS)] = None
    """The most of them at a time, where a step's do not fit the memory; the step stays the same."""

    schedule: Annotated[Literal["linear", "cosine", "constant"] | None, Parameter(group=_STEPS)] = None
    """Of the learning rate, from its peak to zero, or the same throughout; linear without a preset."""

    warmup: Annotated[float | None, Parameter(group=_STEPS)] = None
    """The share of the steps in which it rises first; 0 without a preset."""

    weight_decay: Annotated[float | None, Parameter(group=_STEPS)] = None
    """AdamW's, on matrices alone; 0 without a preset."""

    betas: Annotated[tuple[float, float] | None, Parameter(group=_STEPS, negative="")] = None
    """AdamW's two; 0.9 0.999 without a preset."""

    clip: Annotated[float | None, Parameter(group=_STEPS)] = None
    """The largest norm of a step's gradient, 0 for any; 1 without a preset."""

    seed: Annotated[int | None, Parameter(group=_STEPS)] = None
    """Of order, adapters, dropout and drawn responses; 0 without a preset."""

    autocast: Annotated[Literal["bfloat16"] | None, Parameter(group=_STEPS)] = None
    """Compute in bfloat16, the weights staying as they are."""

    gradient_checkpointing: Annotated[bool | None, Parameter(group=_STEPS, negative="")] = None
    """Compute activations again instead of keeping them, to save memory."""

    loss_on: Annotated[Literal["everything", "question", "chain", "answer"] | None, Parameter(group=_TEXT)] = None
    """Whose tokens carry the loss, a chain's with those of what follows it; chain without a preset."""

    layout: Annotated[Literal["pad", "pack"] | None, Parameter(group=_TEXT)] = None
    """pad: a row an example. pack: texts one behind the other, cut into rows of --context tokens. pad without
    a preset."""

    text: Annotated[Literal["plain", "chat"] | None, Parameter(group=_TEXT)] = None
    """plain fills --template; chat the tokenizer's chat template. plain without a preset."""

    template: Annotated[str | None, Parameter(group=_TEXT)] = None
    """Of plain text: "Q: {question}\\nA: {chain}" for files and "{question} {chain}" for tasks if not given."""

    system: Annotated[str | None, Parameter(group=_TEXT)] = None
    """The system's message of a chat."""

    context: Annotated[int | None, Parameter(group=_TEXT)] = None
    """The most tokens of a row; the model's if not given."""

    too_long: Annotated[Literal["refuse", "drop"] | None, Parameter(group=_TEXT)] = None
    """What becomes of an example that is longer; refuse without a preset."""

    lora: Annotated[int | None, Parameter(group=_PART)] = None
    """Train a low-rank adapter of this rank instead of the weights; it is merged at the end, and kept too."""

    lora_alpha: Annotated[float | None, Parameter(group=_PART)] = None
    """The adapter is multiplied by this over its rank; twice the rank if not given."""

    lora_dropout: Annotated[float | None, Parameter(group=_PART)] = None
    """The share of inputs that the adapter does not see in a step; 0 if not given."""

    lora_roles: Annotated[Words, Parameter(group=_PART)] = None
    """Modules that have one, such as q_proj v_proj; every linear layer of a block if not given."""

    train: Annotated[Words, Parameter(group=_PART)] = None
    """Train these modules alone, such as o_proj, mlp or attention; all the rest is frozen."""

    always: Annotated[Words, Parameter(group=_PART)] = None
    """Modules that are trained besides, such as embed lm_head norm."""

    layers: Annotated[Numbers, Parameter(group=_PART)] = None
    """Train modules of these layers alone, such as -2 -1 for the last two."""

    evaluate_every: Annotated[int | Literal["epoch"] | None, Parameter(group=_KEPT)] = None
    """Steps between validation losses, or epoch; epoch without a preset."""

    checkpoint_every: Annotated[int | Literal["epoch"] | None, Parameter(group=_KEPT)] = None
    """Steps between checkpoints, or epoch; as --evaluate-every if not given."""

    rule: Annotated[Literal["best", "last within", "last"] | None, Parameter(group=_KEPT)] = None
    """Which checkpoint is taken: that of the best validation loss, the last within --margin of it, or the last.
    best if not given."""

    margin: Annotated[float | None, Parameter(group=_KEPT)] = None
    """Of "last within", in nats a token; 0.1 if not given."""

    keep: Annotated[Literal["choosable", "any margin", "all"] | None, Parameter(group=_KEPT)] = None
    """Which checkpoints are kept; those that the rule may still take if not given."""

    temperature: Annotated[float | None, Parameter(group=_METHODS)] = None
    """Of the teacher's logits in distillation, and of the drawn responses in GRPO; 1 without a preset."""

    hard: Annotated[float | None, Parameter(group=_METHODS)] = None
    """The share of the usual loss in distillation; 0 without a preset."""

    group: Annotated[int | None, Parameter(group=_METHODS)] = None
    """Responses to a question that GRPO compares; 8 without a preset."""

    judge: Annotated[str | None, Parameter(group=_METHODS)] = None
    """Of the task, who rewards, such as strict; its first if not given."""

    partial: Annotated[Words, Parameter(group=_METHODS)] = None
    """Weights of partial credit, such as gold=0.3."""

    beta: Annotated[float | None, Parameter(group=_METHODS)] = None
    """The weight of the KL divergence from the model as it was, in GRPO; 0 without a preset."""

    max_new_tokens: Annotated[int | None, Parameter(group=_METHODS)] = None
    """Tokens at which a response is broken off; the task's if not given."""

    updates: Annotated[int | None, Parameter(group=_METHODS)] = None
    """Steps on the same responses in GRPO; 1 without a preset."""

    def given(self, preset: str | None) -> dict[str, Any]:
        """Those that are given, by the names of a recipe's; an adapter's over the preset's own.

        Raises:
            TrainingError: there is no such preset.
            ValueError: an adapter's setting without an adapter, or partial credit that is no JUDGE=WEIGHT.

        >>> Settings(learning_rate=1e-3, autocast="bfloat16").given(None)
        {'learning_rate': 0.001, 'dtype': 'bfloat16'}
        """
        told = {field.name: getattr(self, field.name) for field in fields(self)}
        told = {name: value for name, value in told.items() if value is not None}
        if "autocast" in told:
            told["dtype"] = told.pop("autocast")
        if self.partial is not None:
            weights = assigned(self.partial, "--partial", "JUDGE=WEIGHT", "gold=0.3")
            try:
                told["partial"] = {name: float(weight) for name, weight in weights.items()}
            except ValueError as wrong:
                raise ValueError(f"--partial is written JUDGE=WEIGHT, such as gold=0.3; {wrong}") from wrong
        adapter = {name: told.pop(option) for option, name in _ADAPTER.items() if option in told}
        if adapter:
            told["lora"] = _adapter(adapter, preset)
        return told


def _loaded(name: str, shots: int | None) -> Task:
    from circuitkit.tasks import load

    task = load(name)
    return task if shots is None else replace(task, shots=shots)


def _adapter(settings: dict[str, Any], preset: str | None) -> Any:
    from circuitkit.training import LoRA
    from circuitkit.training import preset as preset_of

    before = preset_of(preset).lora
    if before is None and "rank" not in settings:
        raise ValueError("an adapter's settings are given, but no adapter: add --lora RANK")
    return LoRA(**settings) if before is None else replace(before, **settings)
