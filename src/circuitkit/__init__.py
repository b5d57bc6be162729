"""Find which parts of a language model do the reasoning, by changing them and measuring what happens.

The public surface, loaded lazily: `import circuitkit` costs nothing until a name is used.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Model": "model",
    "Site": "model",
    "load": "model",
    "Cache": "run",
    "Run": "run",
    "replace": "run",
    "zero": "run",
    "mean": "run",
    "scale": "run",
    "add": "run",
    "knockout": "run",
    "Pairs": "pairs",
}
_MODULES = ("ablation", "attention", "metrics", "patching", "plots", "statistics", "tasks")

__all__ = [*_HOMES, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"circuitkit.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(f"circuitkit.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'circuitkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
