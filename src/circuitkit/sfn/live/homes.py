"""The tensors that a model's numbers are in: its parameters, or what accelerate keeps in memory or on disk for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from circuitkit.sfn.errors import SfnError
from circuitkit.sfn.streams.memory import named

if TYPE_CHECKING:
    from circuitkit.model import Model

_FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)

_brought: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
"""Of each tensor that was brought from disk to be written: where it waited, and under which name."""


class LiveError(SfnError):
    """Weights of a model in memory that cannot be changed for a while, or that could not be given back."""


class Homes:
    """Finds where to write a model's numbers, so that the model computes with what is written.

    Raises:
        LiveError: the model is divided among processes.
    """

    def __init__(self, model: Model) -> None:
        if model.group is not None:
            raise LiveError(
                f"{model.name} is divided among processes (tp_plan), none of which has a whole weight: load it with "
                "device_map='auto' instead"
            )
        self._model, self._root = model, model.anatomy.root
        self._named = named(model)

    def check(self, name: str) -> None:
        """Refuse a tensor that is not to be written.

        Args:
            name: that the causal LM gives it without adapters.

        Raises:
            LiveError: it is quantised, has an adapter in its place, or is tied and offloaded.
        """
        self._check_adapter(name)
        tensor = self._named[name]
        if not tensor.is_meta:
            self._check_plain(name, tensor)
            return
        self._offloaded(name)

    def of(self, name: str) -> Tensor:
        """A tensor's home, by the name that the causal LM gives it without adapters."""
        tensor = self._named[name]
        if not tensor.is_meta:
            return tensor
        waiting, key = self._offloaded(name)
        home: Tensor = waiting[key]
        self._check_plain(name, home)
        in_memory = waiting if isinstance(waiting, dict) else waiting.state_dict
        if key not in in_memory:
            # What is in memory comes before what is on disk.
            in_memory[key] = home
            _brought[home] = (in_memory, key)
        return home

    def has(self, name: str, home: Tensor) -> bool:
        """Whether the model computes with a tensor that it had under a name, whatever that is now."""
        if self._named[name].is_meta:
            return True
        return any(each is home for each in (*self._root.parameters(), *self._root.buffers()))

    def _check_plain(self, name: str, home: Tensor) -> None:
        plain = type(home) is Tensor or (type(home) is nn.Parameter and home.dtype in _FLOATS)
        if not plain:
            kind = str(home.dtype).removeprefix("torch.")
            raise LiveError(
                f"{name} of {self._model.name} is quantised ({type(home).__name__} of {kind}), with scales that other "
                "weights do not fit: load it unquantised (float32, bfloat16 or float16)"
            )

    def _check_adapter(self, name: str) -> None:
        """Refuse a weight that does not compute as it is, since an adapter is in it or in its place."""
        parts = name.split(".")
        for depth in range(1, len(parts)):
            module = self._root.get_submodule(".".join(parts[:depth]))
            if not type(module).__module__.startswith("peft."):
                continue
            if getattr(module, "merged", False):
                raise LiveError(
                    f"an adapter is merged into {name} of {self._model.name}: call unmerge_adapter() on the PEFT model"
                )
            if hasattr(module, "original_module"):
                raise LiveError(
                    f"{name} of {self._model.name} is not what computes: the adapter has a copy of its own "
                    "(modules_to_save); merge and unload the adapter, or leave this module out"
                )

    def _offloaded(self, name: str) -> tuple[Any, str]:
        """Where accelerate keeps a parameter that waits in memory or on disk, and under which name."""
        module, _, last = name.rpartition(".")
        hook = getattr(self._root.get_submodule(module), "_hf_hook", None)
        maps = (getattr(each, "weights_map", None) for each in (hook, *getattr(hook, "hooks", ())))
        found: Any = next((each for each in maps if each is not None), None)
        if found is None:
            raise LiveError(
                f"{name} of {self._model.name} is on the meta device and has no numbers: load the model with weights"
            )
        tied: Any = getattr(self._root, "all_tied_weights_keys", None) or {}
        if name in (*tied, *tied.values()):
            raise LiveError(
                f"{name} of {self._model.name} is tied and offloaded, where its copies cannot be changed together: "
                "load the model onto devices that hold it, or leave embed and lm_head out"
            )
        return found.dataset, f"{found.prefix}{last}"


def send_back(home: Tensor) -> None:
    """Let a tensor that was brought from disk be read from there again."""
    if home in _brought:
        waiting, key = _brought.pop(home)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        del waiting[key]


def stay(home: Tensor) -> None:
    """Leave a tensor that was brought from disk in memory for good."""
    _brought.pop(home, None)  # type: ignore[no-untyped-call]  # as above
