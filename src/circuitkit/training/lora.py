"""Low-rank adapters by peft, on module roles of any architecture, and their merging."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from circuitkit.model import SiteError, roles
from circuitkit.model.roles import RoleError
from circuitkit.training.errors import TrainingError
from circuitkit.training.freezing import check_free, frozen_whole

if TYPE_CHECKING:
    from circuitkit.model import Model
    from circuitkit.training.recipe import LoRA, Recipe


@contextmanager
def adapting(model: Model, recipe: Recipe) -> Iterator[Any]:
    """Give a peft model around a model's own modules, whose adapter is merged into them as the context ends.

    An error other than a training's own takes the adapter away instead.

    Raises:
        TrainingError: see `adapted`.
    """
    import transformers

    assert recipe.lora is not None
    with frozen_whole(model):
        # An adapter's first weights are drawn.
        transformers.set_seed(recipe.seed)
        hf = adapted(model, recipe.lora, recipe.layers)
        try:
            yield hf
        except TrainingError:
            hf.merge_and_unload()
            raise
        except BaseException:
            hf.unload()
            raise
        hf.merge_and_unload()


def adapted(model: Model, lora: LoRA, layers: tuple[int, ...] | None = None) -> Any:
    """A peft model around a model's own modules, whose adapter alone is trained.

    Experts' projections, which are tensors and no modules, are adapted as peft adapts parameters.

    Raises:
        TrainingError: a role does not exist or is not to be had alone.
    """
    from peft import LoraConfig, get_peft_model

    modules, tensors = targets(model, lora, layers)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=2 * lora.rank if lora.alpha is None else lora.alpha,  # type: ignore[arg-type]  # a fraction will do
        lora_dropout=lora.dropout,
        target_modules=modules,
        target_parameters=tensors or None,
        fan_in_fan_out=any(_is_conv1d(model.anatomy.root.get_submodule(name)) for name in modules),
        bias="none",
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        # peft asks by a name that transformers has renamed.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
        return get_peft_model(model.anatomy.root, config)


def targets(model: Model, lora: LoRA, layers: tuple[int, ...] | None = None) -> tuple[list[str], list[str]]:
    """Names of the modules, and of the tensors that are no module's weight, which an adapter is for.

    Raises:
        TrainingError: a role does not exist, is not to be had alone, or is frozen while others are not.

    >>> from circuitkit.training.recipe import LoRA
    >>> targets(ck.load("deductor-130k"), LoRA(1, roles="o_proj"), layers=(-1,))
    (['model.layers.2.self_attn.o_proj'], [])
    """
    try:
        names = roles.chosen(model, lora.roles, layers)
    except (RoleError, SiteError) as error:
        raise TrainingError(str(error)) from error
    check_free(model, names)
    if tied := next((name for name in names if {"embed", "lm_head"} <= {*roles.parameters(model)[name]}), None):
        raise TrainingError(
            f"{tied} of {model.name} embeds and unembeds: an adapter would learn one of the two, and merging it would "
            "change both; leave embed and lm_head out"
        )
    modules = list(dict.fromkeys(name.removesuffix(".weight") for name in names if name.endswith(".weight")))
    tensors = [name for name in names if not name.endswith((".weight", ".bias", "_bias"))]
    if not modules and not tensors:
        raise TrainingError(f"no module of {model.name} has a role of {', '.join(lora.roles)} in layers {layers}")
    return modules, tensors


def _is_conv1d(module: Any) -> bool:
    return type(module).__name__ == "Conv1D"
