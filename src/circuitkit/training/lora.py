"""Low-rank adapters by peft, on module roles of any architecture, and their merging."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from circuitkit.model import SiteError, roles
from circuitkit.model.roles import RoleError
from circuitkit.training.errors import TrainingError

if TYPE_CHECKING:
    from circuitkit.model import Model
    from circuitkit.training.recipe import LoRA


def adapted(model: Model, lora: LoRA, layers: tuple[int, ...] | None = None) -> Any:
    """A peft model around a model's own modules, whose adapter alone is trained.

    Experts' projections, which are tensors and no modules, are adapted as peft adapts parameters.

    Raises:
        TrainingError: a role does not exist or is not to be had alone, or the model has an adapter already.
    """
    from peft import LoraConfig, get_peft_model

    modules, tensors = _targets(model, lora, layers)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=2 * lora.rank if lora.alpha is None else lora.alpha,  # type: ignore[arg-type]  # it may be a fraction
        lora_dropout=lora.dropout,
        target_modules=modules,
        target_parameters=tensors or None,
        fan_in_fan_out=any(_is_conv1d(model.anatomy.root.get_submodule(name)) for name in modules),
        bias="none",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model.anatomy.root, config)  # type: ignore[arg-type]  # a PreTrainedModel


def merged(adapter: Any) -> None:
    """Add an adapter's products to the weights of the model that it is around, and take it away."""
    adapter.merge_and_unload()


def _targets(model: Model, lora: LoRA, layers: tuple[int, ...] | None) -> tuple[list[str], list[str]]:
    """Names of the modules and of the lone tensors that have an adapter."""
    if hasattr(model.hf, "peft_config"):
        raise TrainingError(f"{model.name} has an adapter already: merge it first (model.hf.merge_and_unload())")
    try:
        names = roles.chosen(model, lora.roles, layers)
    except (RoleError, SiteError) as error:
        raise TrainingError(str(error)) from error
    modules = list(dict.fromkeys(name.removesuffix(".weight") for name in names if name.endswith(".weight")))
    tensors = [name for name in names if not name.endswith((".weight", ".bias", "_bias"))]
    if not modules and not tensors:
        raise TrainingError(f"no module of {model.name} has a role of {', '.join(lora.roles)} in layers {layers}")
    return modules, tensors


def _is_conv1d(module: Any) -> bool:
    return type(module).__name__ == "Conv1D"
