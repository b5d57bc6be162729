"""How small a part of a model a LoRA trains, counted without loading or holding a weight."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from circuitkit.training.errors import TrainingError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The roles of every linear layer of a block, which rank-1 LoRA is put on in "Reasoning Elicitation"."""

_SHAPES = {
    "1.5B": (1536, 28, 12, 2, 8960, 151936, True),
    "7B": (3584, 28, 28, 4, 18944, 152064, False),
    "14B": (5120, 48, 40, 8, 13824, 152064, False),
    "32B": (5120, 64, 40, 8, 27648, 152064, False),
}
_FIELDS = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "intermediate_size",
    "vocab_size",
    "tie_word_embeddings",
)
QWEN2_5: Mapping[str, Mapping[str, int | bool]] = MappingProxyType(
    {f"Qwen2.5-{size}": MappingProxyType(dict(zip(_FIELDS, shape, strict=True))) for size, shape in _SHAPES.items()}
)
"""The shapes of Qwen2.5's models, as their published configurations have them; `Qwen2Config(**shape)` takes one."""


@dataclass(frozen=True)
class TrainableShare:
    """Numbers that a LoRA trains, and those that the model has without it."""

    trainable: int
    total: int

    @property
    def per_cent(self) -> float:
        """The trainable numbers in per cent of the model's own."""
        return 100 * self.trainable / self.total

    def __str__(self) -> str:
        return f"{self.trainable:,} of {self.total:,} ({self.per_cent:.3f} %)"


def qwen2_5(name: str) -> PretrainedConfig:
    """The configuration of one of Qwen2.5's published shapes, without asking the hub.

    Raises:
        TrainingError: there is no shape of that name here.

    >>> qwen2_5("Qwen2.5-32B").num_hidden_layers
    64
    """
    from transformers import Qwen2Config

    if name not in QWEN2_5:
        raise TrainingError(f"no shape named {name!r} is built in; there are {', '.join(QWEN2_5)}")
    shape: dict[str, Any] = dict(QWEN2_5[name])
    return Qwen2Config(**shape)


def lora_share(config: PretrainedConfig, rank: int = 1, roles: Sequence[str] = LINEAR) -> TrainableShare:
    """Count what a LoRA of a rank on the linear layers of some roles would train, as peft counts it.

    The model and its adapters are made on the meta device: no memory is taken, no weight drawn or loaded.

    Raises:
        TrainingError: peft is missing, the rank is below 1, or the architecture has no module of a role.

    >>> print(lora_share(qwen2_5("Qwen2.5-1.5B")))
    1,154,048 of 1,543,714,304 (0.075 %)
    """
    import torch

    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as missing:
        raise TrainingError("LoRA needs peft: pip install 'circuitkit[train]'") from missing

    _checked(rank)
    with torch.device("meta"):
        model = _on_meta(config)
        total = model.num_parameters()
        named = _modules(model, roles)
        with warnings.catch_warnings():
            # peft asks transformers for what it is about to rename.
            warnings.simplefilter("ignore", FutureWarning)
            adapted = get_peft_model(model, LoraConfig(r=rank, target_modules=list(named), task_type="CAUSAL_LM"))
    trainable, _ = adapted.get_nb_trainable_parameters()
    return TrainableShare(trainable, total)


def lora_share_by_formula(config: PretrainedConfig, rank: int = 1, roles: Sequence[str] = LINEAR) -> TrainableShare:
    """The same from shapes alone: a LoRA of rank r on a layer from `in` to `out` features trains r (in + out) numbers.

    Raises:
        TrainingError: the rank is below 1, or the architecture has no module of a role.

    >>> print(lora_share_by_formula(qwen2_5("Qwen2.5-32B")))
    8,388,608 of 32,763,876,352 (0.026 %)
    """
    _checked(rank)
    model = _on_meta(config)
    # A weight's two sides, whichever of them the architecture calls in.
    trained = sum(rank * sum(module.weight.shape) for module in _modules(model, roles).values())
    return TrainableShare(trained, model.num_parameters())


def _checked(rank: int) -> None:
    if rank < 1:
        raise TrainingError(f"a LoRA's rank is 1 or more; got {rank}")


def _on_meta(config: PretrainedConfig) -> PreTrainedModel:
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        # transformers leaves it untyped
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    return model


def _modules(model: PreTrainedModel, roles: Sequence[str]) -> dict[str, Any]:
    """The modules of some roles, by their full names."""
    found = {name: module for name, module in model.named_modules() if name.split(".")[-1] in roles}
    absent = [role for role in roles if not any(name.split(".")[-1] == role for name in found)]
    if absent or not roles:
        raise TrainingError(f"{type(model).__name__} has no module of the role {', '.join(absent) or '(none given)'}")
    return found
