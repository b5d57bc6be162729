"""Where a model's parts compute, and their weights, when they are spread over devices, offloaded or divided."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn


def execution_device(module: nn.Module) -> torch.device:
    """Where a module computes: where its weights are, or where accelerate brings them to while it does.

    >>> execution_device(torch.nn.Linear(2, 2))
    device(type='cpu')
    """
    # What is offloaded waits on the meta device, and a sequence of hooks has one that knows better.
    hook: Any = getattr(module, "_hf_hook", None)
    for each in (hook, *getattr(hook, "hooks", ())):
        if (device := getattr(each, "execution_device", None)) is not None:
            return torch.device(device)
    return next(module.parameters()).device


def accelerators(hf: Any) -> list[torch.device]:
    """The accelerators that a device map spreads a model over; none where there is no such map.

    What is offloaded to the CPU's memory or to disk computes on one of them too.
    """
    places = dict.fromkeys(getattr(hf, "hf_device_map", {}).values())
    return [torch.device(place) for place in places if str(place) not in ("cpu", "disk")]


def divided(hf: nn.Module) -> str | None:
    """The first parameter of which a process holds a share alone (FSDP, ZeRO-3), by name; None if all are whole.

    >>> divided(torch.nn.Linear(2, 3)) is None
    True
    """
    # DTensors know how to be put together; flat parameters and ZeRO's are told by the marks that are put on them.
    marks = ("full_tensor", "_fsdp_flattened", "ds_status")
    return next((name for name, each in hf.named_parameters() if any(hasattr(each, mark) for mark in marks)), None)


def weight_of(module: nn.Module, name: str = "weight") -> Tensor | None:
    """A module's parameter as it is while the module computes, and whole; None where it has none of that name.

    A copy where the weights are offloaded or divided among processes, all of which have to ask.

    >>> weight_of(torch.nn.Linear(2, 3)).shape
    torch.Size([3, 2])
    """
    offloaded = getattr(getattr(module, "_hf_hook", None), "offload", False)
    with _brought(module) if offloaded else nullcontext():
        parameter: Any = getattr(module, name, None)
        if parameter is None:
            return None
        # A divided tensor alone knows how to be put together.
        whole = parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter
        value: Tensor = whole.detach()
        return value.clone() if offloaded else value


def _brought(module: nn.Module) -> Any:
    from accelerate.utils import align_module_device

    return align_module_device(module)
