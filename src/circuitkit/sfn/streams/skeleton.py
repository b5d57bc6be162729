"""A model without memory for its weights: its modules, their names and shapes, from its settings alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from circuitkit.model import AnatomyError, Model
from circuitkit.sfn.errors import CheckpointError


def config_of(folder: Path, name: str, *, trust_remote_code: bool = False) -> Any:
    """A folder's settings, as transformers has them.

    Raises:
        CheckpointError: transformers does not know the architecture, or its code may not be run.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"the config of {name} cannot be read: {error}") from error


def skeleton(config: Any, name: str, *, trust_remote_code: bool = False) -> Model:
    """The causal LM of some settings, on PyTorch's meta device.

    Raises:
        CheckpointError: the architecture is not known.
    """
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            hf = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]  # transformers leaves it untyped
                config, trust_remote_code=trust_remote_code
            )
        return Model(hf.eval(), None, name=name)
    except (AnatomyError, ValueError, KeyError, ImportError) as error:
        raise CheckpointError(f"{name}: its architecture is not known: {error}") from error
