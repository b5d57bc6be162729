"""What is held on a model besides its content: hooks, contexts, adapters and the like, which decide outputs too."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from circuitkit.model.fingerprint import OWN_ATTRIBUTES, tensors_of

if TYPE_CHECKING:
    from circuitkit.model.model import Model


def held(model: Model) -> str | None:
    """Why a run of the model is not its own at this moment, in words; None where it is.

    Hooks, open contexts, adapters, replaced methods, autocast and the like decide outputs too, and cannot be told from
    their content.

    >>> model = ck.load("planted-induction-llama")
    >>> with model.intervene([ck.scale("z[layer=0]", 1.0)]):
    ...     held(model), bool(model.run([[1, 2]]))
    ('a context is open on it', True)
    """
    root = model.anatomy.root
    if getattr(model, "group", None) is not None:
        return "it is divided among processes"
    if model.hf is not root:
        return "it has an adapter"
    if model.sessions:
        return "a context is open on it"
    for path, module in root.named_modules():
        if (reason := _held_on(module)) is not None:
            return f"{path or 'the model'} {reason}"
    return _held_around(root)


def _held_on(module: nn.Module) -> str | None:
    if module._forward_hooks or module._forward_pre_hooks:
        return "has a hook"
    if type(module).__module__.startswith("peft."):
        return "is an adapter's"
    if getattr(module, "_compiled_call_impl", None) is not None:
        return "is compiled"
    if any(
        tensor.is_meta for tensor in (*module._parameters.values(), *module._buffers.values()) if tensor is not None
    ):
        return "has its weights offloaded"
    accelerated = type(getattr(module, "_hf_hook", None)).__module__.startswith("accelerate.")
    for name, value in vars(module).items():
        if callable(value) and name not in OWN_ATTRIBUTES and hasattr(type(module), name) and name != "generate":
            if accelerated and name == "forward":
                continue
            return f"has a {name} of its own"
    return None if _forward_is_its_classes_own(type(module)) else "is of a class whose forward was replaced"


def _forward_is_its_classes_own(cls: Any) -> bool:
    written_in = getattr(inspect.unwrap(cls.forward), "__module__", None)
    return written_in in {each.__module__ for each in cls.__mro__}


def _held_around(root: nn.Module) -> str | None:
    everywhere = torch.nn.modules.module
    if everywhere._global_forward_hooks or everywhere._global_forward_pre_hooks:
        return "a hook is held on all modules"
    if any(torch.is_autocast_enabled(kind) for kind in {tensor.device.type for _, tensor in tensors_of(root)}):
        return "autocast is on"
    modes: Any = torch.overrides
    dispatch: Any = torch.utils._python_dispatch
    if modes._get_current_function_mode_stack() or dispatch._get_current_dispatch_mode_stack():
        return "a torch mode is on"
    name = getattr(getattr(root, "config", None), "_attn_implementation", None)
    for source in {sys.modules.get(type(module).__module__) for module in root.modules()}:
        attend = getattr(source, "ALL_ATTENTION_FUNCTIONS", {}).get(name, None) if name else None
        if attend is not None and attend.__module__.split(".")[0] not in {"transformers", "torch", "circuitkit"}:
            return f"its attention function {name!r} was replaced"
    return None
