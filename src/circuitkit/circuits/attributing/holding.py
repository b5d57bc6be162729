"""Actions on what modules are handed and make along the stream, held by hooks while a context lasts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from threading import get_ident
from typing import Any

from torch import Tensor, nn

from circuitkit.model.hooks import before_forward
from circuitkit.model.points import first_tensor, with_first_tensor

Act = Callable[[Tensor], Tensor | None]
"""Reads a tensor; returns what goes on instead, or None to leave it."""


def before(module: nn.Module, act: Act, stack: ExitStack) -> None:
    """Act on what a module is handed along the stream, in this thread."""
    thread = get_ident()

    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if get_ident() != thread:
            return None
        if any(isinstance(value, Tensor) for value in args):
            new = act(first_tensor(args))
            return None if new is None else (with_first_tensor(args, new), kwargs)
        name = next(name for name, value in kwargs.items() if isinstance(value, Tensor))
        new = act(kwargs[name])
        return None if new is None else (args, {**kwargs, name: new})

    stack.callback(before_forward(module, hook).remove)


def after(module: nn.Module, act: Act, stack: ExitStack) -> None:
    """Act on what a module makes along the stream, in this thread."""
    thread = get_ident()

    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if get_ident() != thread:
            return None
        new = act(first_tensor(output))
        return None if new is None else with_first_tensor(output, new)

    stack.callback(module.register_forward_hook(hook).remove)
