"""Two devices that are not there: their tensors compute on the CPU, and refuse to mix as real ones do."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

# A type of device that torch knows by name and never initialises.
FIRST, SECOND = torch.device("lazy:0"), torch.device("lazy:1")

# A copy crosses devices, and an index may stay on the CPU.
_CROSSING = {"aten::copy_", "aten::_to_copy"}
_INDEXED = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}


class Placed(Tensor):
    """A tensor on a pretended device, held on the CPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor, device: torch.device) -> "Placed":
        placed = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=device,
            requires_grad=held.requires_grad,
        )
        placed.held = held
        return placed

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


def _computed(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = func._schema.name
    tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
    target = kwargs.get("device")
    devices = {each.device for each in tensors if each.ndim or each.device.type != "cpu"}
    if name in _INDEXED:
        devices = {args[0].device} | {device for device in devices if device.type != "cpu"}
    if name not in _CROSSING and len(devices) > 1:
        raise RuntimeError(f"{name}: tensors on {' and '.join(sorted(map(str, devices)))}")
    here = next(iter(sorted(devices, key=str)), torch.device("cpu"))
    if name == "aten::copy_":
        here = args[0].device
    if target is not None:
        here, kwargs = torch.device(target), {**kwargs, "device": torch.device("cpu")}
    out = func(*tree_map(_held, args), **tree_map(_held, kwargs))
    if func._schema.is_mutable and tensors and isinstance(out, Tensor):
        return args[0] if out is _held(args[0]) else kwargs.get("out", args[0])
    return tree_map(lambda each: Placed(each, here) if isinstance(each, Tensor) and here.type != "cpu" else each, out)


def _held(value: Any) -> Any:
    return value.held if isinstance(value, Placed) else value


class _Pretending(TorchDispatchMode):
    """Tensors that are made on a pretended device, or sent there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


class _Made(TorchFunctionMode):
    """What torch does on tensors of real devices only, by way of the CPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and "device" in kwargs:
            return func(*args, **kwargs | {"device": None}).to(kwargs["device"])
        if func is Tensor.tolist:
            return func(args[0].cpu())
        return func(*args, **kwargs)


@contextmanager
def pretending() -> Iterator[None]:
    """Let tensors be made on the pretended devices."""
    # Inference tensors of a class of one's own cannot be views.
    with _Pretending(), _Made(), patch.object(torch, "inference_mode", torch.no_grad):
        yield


def place(hf: Any, device_map: dict[str, torch.device]) -> Any:
    """Spread a model over the devices, with the hooks that accelerate gives a model with such a map."""
    from accelerate.hooks import AlignDevicesHook, add_hook_to_module

    for path, device in device_map.items():
        module = hf.get_submodule(path)
        for each in module.modules():
            for name, parameter in each._parameters.items():
                if parameter is not None:
                    each._parameters[name] = nn.Parameter(Placed(parameter.detach(), device), requires_grad=False)
            for name, buffer in each._buffers.items():
                if buffer is not None:
                    each._buffers[name] = Placed(buffer, device)
        add_hook_to_module(module, AlignDevicesHook(execution_device=device, place_submodules=False))
    add_hook_to_module(hf, AlignDevicesHook(io_same_device=True))
    hf.hf_device_map = device_map
    return hf
