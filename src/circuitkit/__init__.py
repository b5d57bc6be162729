"""Find which parts of a language model do the reasoning, by changing them and measuring what happens.

The public surface, loaded lazily: `import circuitkit` costs nothing until a name is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from circuitkit import (
        ablation,
        attention,
        circuits,
        evaluation,
        interop,
        lens,
        metrics,
        patching,
        plots,
        report,
        results,
        sfn,
        similarity,
        statistics,
        steering,
        studies,
        tasks,
        thresholds,
        training,
    )
    from circuitkit.evaluation import Evaluation, evaluate
    from circuitkit.model import Model, Site, load
    from circuitkit.pairs import Pairs
    from circuitkit.results import Result
    from circuitkit.run import Cache, Run, add, knockout, mean, replace, scale, zero
    from circuitkit.spans import Span
    from circuitkit.studies import sweep
    from circuitkit.training import train

__version__ = "0.1.0"

__all__ = [
    "Cache",
    "Evaluation",
    "Model",
    "Pairs",
    "Result",
    "Run",
    "Site",
    "Span",
    "ablation",
    "add",
    "attention",
    "circuits",
    "evaluate",
    "evaluation",
    "interop",
    "knockout",
    "lens",
    "load",
    "mean",
    "metrics",
    "patching",
    "plots",
    "replace",
    "report",
    "results",
    "scale",
    "sfn",
    "similarity",
    "statistics",
    "steering",
    "studies",
    "sweep",
    "tasks",
    "thresholds",
    "train",
    "training",
    "zero",
]

_HOMES = {
    **dict.fromkeys(("Model", "Site", "load"), "model"),
    **dict.fromkeys(("Cache", "Run", "add", "knockout", "mean", "replace", "scale", "zero"), "run"),
    **dict.fromkeys(("Evaluation", "evaluate"), "evaluation"),
    "Pairs": "pairs",
    "Result": "results",
    "Span": "spans",
    "sweep": "studies",
    "train": "training",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"circuitkit.{_HOMES[name]}"), name)
    if name in __all__:
        return importlib.import_module(f"circuitkit.{name}")
    raise AttributeError(f"module 'circuitkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
