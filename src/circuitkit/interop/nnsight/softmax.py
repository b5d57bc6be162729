"""Where the softmax of a model's attention is, by the names under which nnsight offers the lines of its source."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

from torch import nn


def softmax_names(attention: nn.Module) -> tuple[str, ...] | None:
    """The calls that lead from an attention module's forward to its softmax; None where there is not exactly one.

    Transformers' attention modules call a function that they look up, and whose eager form lies in their own file;
    others call the softmax themselves.

    >>> softmax_names(ck.load("deductor-130k").anatomy.blocks[0].attn)
    ('attention_interface_1', 'nn_functional_softmax_0')
    """
    cls: Any = type(attention)
    return _names_in(cls)


@cache
def _names_in(attention: Any) -> tuple[str, ...] | None:
    own = _calls(attention.forward)
    within = _eager_function(attention)
    called = [name for name in own if re.fullmatch(r"attention_interface_\d+", name)]
    if within is not None and called:
        softmaxes = _softmaxes(_calls(within))
        # The lookup is an assignment of the same name, and comes first.
        return (called[-1], softmaxes[0]) if len(softmaxes) == 1 else None
    softmaxes = _softmaxes(own)
    return (softmaxes[0],) if len(softmaxes) == 1 else None


def _softmaxes(names: tuple[str, ...]) -> list[str]:
    return [name for name in names if re.fullmatch(r"(\w+_)?softmax_\d+", name)]


def _calls(function: Callable[..., Any]) -> tuple[str, ...]:
    from nnsight.intervention.source import SourceNotAvailable, compile_source

    try:
        return tuple(compile_source(inspect.unwrap(function)).names)
    except SourceNotAvailable:
        return ()


def _eager_function(attention: type[nn.Module]) -> Callable[..., Any] | None:
    files: list[Any] = [sys.modules.get(cls.__module__) for cls in attention.__mro__]
    return next((file.eager_attention_forward for file in files if hasattr(file, "eager_attention_forward")), None)
