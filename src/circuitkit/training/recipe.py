"""How a model is trained: every setting of a run, checked, and the same again from JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from circuitkit.training import rules
from circuitkit.training.errors import TrainingError

Method = Literal["supervised", "distil", "grpo"]
Schedule = Literal["linear", "cosine", "constant"]
Part = Literal["everything", "question", "chain", "answer"]
Layout = Literal["pad", "pack"]
Text = Literal["plain", "chat"]
Every = int | Literal["epoch"]

_BETAS = (0.9, 0.999)
_OF_METHOD: Mapping[str, tuple[str, ...]] = {
    "distil": ("hard",),
    "grpo": (
        "group",
        "judge",
        "partial",
        "beta",
        "max_new_tokens",
        "shots",
        "updates",
        "clip_ratio",
        "scale_rewards",
        "patience",
    ),
}


@dataclass(frozen=True)
class LoRA:
    """A low-rank adapter.

    Attributes:
        rank: of each module's difference.
        alpha: the difference is multiplied by alpha / rank; twice the rank if None.
        dropout: share of a module's inputs that the adapter does not see in a step.
        roles: the modules that have one.

    Raises:
        TrainingError: a setting is out of its range.
    """

    rank: int = 1
    alpha: float | None = None
    dropout: float = 0.0
    roles: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

    def __post_init__(self) -> None:
        object.__setattr__(self, "roles", _words(self.roles))
        if self.rank < 1 or not 0 <= self.dropout < 1 or not self.roles:
            raise TrainingError(
                f"a LoRA has a rank of 1 or more, a dropout under 1 and roles, not rank {self.rank}, dropout "
                f"{self.dropout} and {len(self.roles)} roles"
            )


@dataclass(frozen=True)
class Recipe:
    """All settings of a training.

    Attributes:
        method: "supervised" learns the texts; "distil" a teacher's distribution on them; "grpo" what a judge rewards.
        learning_rate: the peak.
        epochs: passes over the examples, where `max_steps` is None.
        max_steps: steps of the optimizer.
        batch_size: rows a step, over all processes (responses, in GRPO).
        device_batch_size: the most rows of a pass of one process, where a step's do not fit its memory.
        schedule: of the learning rate, from the peak to zero (cosine, linear) or the same throughout (constant).
        warmup: share of the steps in which the learning rate rises to its peak.
        weight_decay: AdamW's, on matrices alone.
        betas: AdamW's.
        clip: largest norm of a step's gradient; 0 for none.
        loss_on: whose tokens carry the loss: "everything"; the "question"; the "chain" with what follows it; or the
            "answer" with what follows it. A token that a boundary cuts belongs to the part that it reaches into.
        layout: "pad" gives each example a row; "pack" puts texts one behind the other and cuts the whole into rows of
            `context` tokens, the remainder dropped; attention crosses examples then.
        pack_examples: how many examples are put one behind the other at a time, each time dropping a remainder; all if
            None.
        text: "plain" fills `template`; "chat" the tokenizer's chat template.
        template: of plain text, with {question}, {chain} and {answer}: by default "Q: {question}\\nA: {chain}", and of
            a task, whose questions end where an answer is to begin, "{question} {chain}". Of the reply alone in a chat.
        system: the system's message of a chat.
        end: put the end token behind each text.
        context: most tokens of a row; the model's if None.
        too_long: "refuse" an example that is longer, or "drop" it.
        lora: train an adapter.
        train: roles (o_proj, mlp, norm, …) that are trained; if None, all, or what `ck.sfn.freeze` left free.
        always: roles that are trained besides.
        layers: layers whose modules are trained, or have an adapter, negative ones from the end; all if None. Modules
            outside of layers are frozen where layers are named, but for those that `train` or `always` names.
        evaluate_every: steps between validation losses, or "epoch".
        checkpoint_every: steps between checkpoints, or "epoch"; as `evaluate_every` if None.
        log_every: steps between training losses in the curve, each the mean since the one before.
        rule: which checkpoint is the outcome; see `rules.choose`. "best" if None, or "last" without a validation set.
        margin: of the rule "last within", in nats a token.
        keep: checkpoints that are kept; see `rules.kept`.
        seed: of adapters, dropout, order and draws.
        dtype: "bfloat16" computes in it by autocast, weights staying as they are.
        gradient_checkpointing: compute activations again instead of keeping them.
        temperature: of a teacher's and student's logits in distillation, or of the draws in GRPO.
        hard: share of the usual loss in distillation.
        group: responses to a question, which GRPO compares with one another.
        judge: of the task, who rewards; its first if None.
        partial: weights of partial credit; see `rewards.Reward`.
        beta: weight of the KL divergence from the model as it was, in GRPO.
        max_new_tokens: where a response is broken off; the task's if None.
        shots: exemplars before a question in GRPO; the task's if None.
        updates: steps on the same responses.
        clip_ratio: how far a token's probability ratio is followed.
        scale_rewards: what an advantage is divided by; see `grpo.arguments`.
        patience: steps without any difference of rewards within a group after which it is said.

    Raises:
        TrainingError: a setting is unknown or out of its range.
    """

    method: Method = "supervised"
    learning_rate: float = 1e-5
    epochs: float = 3.0
    max_steps: int | None = None
    batch_size: int = 16
    device_batch_size: int | None = None
    schedule: Schedule = "linear"
    warmup: float = 0.0
    weight_decay: float = 0.0
    betas: tuple[float, float] = _BETAS
    clip: float = 1.0
    loss_on: Part = "chain"
    layout: Layout = "pad"
    pack_examples: int | None = None
    text: Text = "plain"
    template: str | None = None
    system: str | None = None
    end: bool = True
    context: int | None = None
    too_long: Literal["refuse", "drop"] = "refuse"
    lora: LoRA | None = None
    train: tuple[str, ...] | None = None
    always: tuple[str, ...] = ()
    layers: tuple[int, ...] | None = None
    evaluate_every: Every = "epoch"
    checkpoint_every: Every | None = None
    log_every: int = 1
    rule: rules.Rule | None = None
    margin: float = 0.1
    keep: rules.Keep = "choosable"
    seed: int = 0
    dtype: Literal["bfloat16"] | None = None
    gradient_checkpointing: bool = False
    temperature: float = 1.0
    hard: float = 0.0
    group: int = 8
    judge: str | None = None
    partial: Mapping[str, float] = field(default_factory=dict)
    beta: float = 0.0
    max_new_tokens: int | None = None
    shots: int | None = None
    updates: int = 1
    clip_ratio: float = 0.2
    scale_rewards: Literal["group", "batch", "none"] = "group"
    patience: int = 20

    def __post_init__(self) -> None:
        set_to = object.__setattr__
        if isinstance(self.lora, int):
            set_to(self, "lora", LoRA(self.lora))
        elif isinstance(self.lora, Mapping):
            if unknown := self.lora.keys() - {each.name for each in dataclasses.fields(LoRA)}:
                raise TrainingError(f"a LoRA has no setting {sorted(unknown)[0]!r}")
            set_to(self, "lora", LoRA(**self.lora))
        if self.train is not None:
            set_to(self, "train", _words(self.train))
        set_to(self, "always", _words(self.always))
        set_to(self, "betas", tuple(self.betas))
        if self.layers is not None:
            set_to(self, "layers", (self.layers,) if isinstance(self.layers, int) else tuple(self.layers))
        self._check_choices()
        self._check_used()
        self._check_numbers()
        self._check_ranges()
        rules.check(self.rule or "last", self.margin)

    def _check_choices(self) -> None:
        choices = {
            "method": get_args(Method),
            "schedule": get_args(Schedule),
            "loss_on": get_args(Part),
            "layout": get_args(Layout),
            "text": get_args(Text),
            "too_long": ("refuse", "drop"),
            "keep": get_args(rules.Keep),
            "dtype": (None, "bfloat16"),
            "scale_rewards": ("group", "batch", "none"),
        }
        for name, allowed in choices.items():
            if (value := getattr(self, name)) not in allowed:
                raise TrainingError(f"{name} is one of {', '.join(map(repr, allowed))}, not {value!r}")
        if self.lora is not None and (self.train is not None or self.always):
            raise TrainingError(
                "an adapter freezes the model's own weights: name its roles in lora, and leave out train"
            )

    def _check_used(self) -> None:
        """Refuse what the method would pass over."""
        for method, names in _OF_METHOD.items():
            for name in names:
                if method != self.method and getattr(self, name) != _default(name):
                    raise TrainingError(f"{name} is of method={method!r}, and the method is {self.method!r}")

    def _check_numbers(self) -> None:
        for each in dataclasses.fields(self):
            value, kind = getattr(self, each.name), str(each.type)
            if value is None or not kind.startswith(("int", "float", "Every")):
                continue
            if kind.startswith("Every") and isinstance(value, str):
                continue
            whole = kind.startswith(("int", "Every"))
            if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
                raise TrainingError(f"{each.name} is {value!r}: give a {'whole ' if whole else ''}number")

    def _check_ranges(self) -> None:
        over_zero = {"learning_rate": self.learning_rate, "epochs": self.epochs, "temperature": self.temperature}
        for name in (
            "batch_size",
            "max_steps",
            "device_batch_size",
            "context",
            "max_new_tokens",
            "updates",
            "group",
            "pack_examples",
            "log_every",
        ):
            over_zero[name] = getattr(self, name)
        for name in ("evaluate_every", "checkpoint_every"):
            value = getattr(self, name)
            if isinstance(value, str) and value != "epoch":
                raise TrainingError(f'{name} is a number of steps or "epoch", not {value!r}')
            over_zero[name] = 1 if isinstance(value, str) else value
        for name, value in over_zero.items():
            if value is not None and not 0 < value < math.inf:
                raise TrainingError(f"{name} is {value}: give a finite number over 0")
        shares = {"warmup": self.warmup, "hard": self.hard, "betas": min(self.betas), "clip_ratio": self.clip_ratio}
        for name, value in {**shares, "the larger of betas": max(self.betas)}.items():
            if not 0 <= value <= 1:
                raise TrainingError(f"{name} is {value}: give a share from 0 to 1")
        if len(self.betas) != len(_BETAS) or max(self.betas) == 1:
            raise TrainingError(f"betas are {self.betas}: give two numbers from 0 to below 1")
        for name in ("weight_decay", "clip", "beta"):
            if not getattr(self, name) >= 0:
                raise TrainingError(f"{name} is {getattr(self, name)}: give 0 or more")

    @property
    def saved_every(self) -> Every:
        """Steps between checkpoints, or "epoch"."""
        return self.evaluate_every if self.checkpoint_every is None else self.checkpoint_every

    def but(self, **settings: Any) -> Recipe:
        """The same with other settings; `epochs` alone does away with `max_steps`.

        Raises:
            TrainingError: there is no such setting, or it is out of its range.

        >>> Recipe().but(learning_rate=1e-3, lora=2).lora.rank
        2
        """
        known = [each.name for each in dataclasses.fields(self)]
        if unknown := settings.keys() - set(known):
            raise TrainingError(f"a training has no setting {sorted(unknown)[0]!r}; it has {', '.join(known)}")
        if "epochs" in settings:
            settings.setdefault("max_steps", None)
        return dataclasses.replace(self, **settings)

    def as_json(self) -> dict[str, Any]:
        """What `Recipe(**…)` makes the same recipe of, after a way through JSON too.

        >>> Recipe(**Recipe(lora=2).as_json()) == Recipe(lora=2)
        True
        """
        told = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in told.items()}


def _default(name: str) -> Any:
    each = next(each for each in dataclasses.fields(Recipe) if each.name == name)
    return each.default if each.default is not dataclasses.MISSING else {}


def _words(words: str | Sequence[str]) -> tuple[str, ...]:
    return (words,) if isinstance(words, str) else tuple(words)
