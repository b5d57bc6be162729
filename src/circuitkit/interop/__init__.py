"""Other toolkits' forms of the same things: models handed over and taken in, captured values renamed."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from circuitkit.interop import lm_eval, nnsight, transformer_lens

__all__ = ["lm_eval", "nnsight", "transformer_lens"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
