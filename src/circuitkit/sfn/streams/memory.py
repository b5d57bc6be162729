"""The tensors of a model in memory, told of as those of a file are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from circuitkit.model import roles
from circuitkit.model.devices import divided, weight_of
from circuitkit.sfn.errors import CheckpointError
from circuitkit.sfn.streams.headers import Stored

if TYPE_CHECKING:
    from circuitkit.model import Model


def tensors_of(model: Model) -> dict[str, Stored]:
    """A model's parameters and the buffers that are saved with them, tied ones once under their first name.

    Raises:
        CheckpointError: the model is divided among processes.
    """
    if (name := divided(model.anatomy.root)) is not None:
        raise CheckpointError(
            f"{name} of {model.name} is divided among processes (FSDP, ZeRO-3 or tensor parallelism), none of which "
            "has all of it: give the folder that the model is saved to, or load it with device_map='auto'"
        )
    return {
        name: Stored(name, tensor.dtype, tuple(tensor.shape), None, 0, tensor.numel() * tensor.element_size())
        for name, tensor in named(model).items()
    }


def tensor_of(model: Model, name: str) -> Tensor:
    """A tensor of a model by its name, as it is now, detached.

    Raises:
        CheckpointError: it is not in memory but waits on disk.
    """
    tensor = named(model)[name]
    if tensor.is_meta:
        module, _, last = name.rpartition(".")
        # What accelerate has put elsewhere is read from there.
        brought = weight_of(model.anatomy.root.get_submodule(module), last)
        if brought is not None and not brought.is_meta:
            return brought
        raise CheckpointError(
            f"{name} of {model.name} is not in memory (offloaded, or a model without weights): give the folder that "
            "the model was loaded from"
        )
    return tensor.detach()


def named(model: Model) -> dict[str, Tensor]:
    """The tensors of a model that are saved, each once, by the name that the causal LM gives it without adapters."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    own = roles.without_adapters(model.anatomy.root)
    for name, tensor in model.anatomy.root.state_dict(keep_vars=True).items():
        if name in own and isinstance(tensor, Tensor) and id(tensor) not in seen:
            seen.add(id(tensor))
            found[own[name]] = tensor
    return found
