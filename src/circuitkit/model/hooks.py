"""Hooks before a module's forward that see its keyword arguments, whatever other threads run meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

Before = Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], Any]


def before_forward(module: nn.Module, hook: Before, *, prepend: bool = False) -> RemovableHandle:
    """Have `hook` called with a module, its arguments and its keyword arguments before each of its forwards.

    torch enters a hook into its table before it notes that the hook takes keyword arguments, and takes it out before it
    forgets that. Another thread whose forward comes in between would call it without: that forward is none of the
    hook's, and goes on untouched.

    >>> seen, layer = [], torch.nn.Linear(2, 2)
    >>> handle = before_forward(layer, lambda module, args, kwargs: seen.append(sorted(kwargs)))
    >>> _ = layer(input=torch.ones(2)); handle.remove(); seen
    [['input']]
    """

    def called(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> Any:
        return None if kwargs is None else hook(module, args, kwargs)

    return module.register_forward_pre_hook(called, prepend=prepend, with_kwargs=True)
