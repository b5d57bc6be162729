"""lm-evaluation-harness (extra `eval`): circuitkit's models for its tasks, and circuitkit's tasks for its models.

`HarnessModel` is registered in lm-eval as `circuitkit`; `evaluate` runs tasks over several seeds; `as_harness_task`
gives lm-eval a task of `circuitkit.tasks`. `python -m circuitkit.interop.lm_eval` is lm-eval's own command that knows
them. Nothing of lm-eval is imported before one of these is used.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuitkit.interop.lm_eval.errors import HarnessError

if TYPE_CHECKING:
    from circuitkit.interop.lm_eval.bridging import as_harness_task
    from circuitkit.interop.lm_eval.harness_model import HarnessModel
    from circuitkit.interop.lm_eval.outcome import HarnessEvaluation
    from circuitkit.interop.lm_eval.running import evaluate

__all__ = ["TASKS", "HarnessError", "HarnessEvaluation", "HarnessModel", "as_harness_task", "evaluate"]

TASKS = Path(__file__).parent / "tasks"
"""The folder of circuitkit's tasks, for lm-eval's `--include_path`."""

_HOMES = {
    "HarnessEvaluation": "outcome",
    "HarnessModel": "harness_model",
    "as_harness_task": "bridging",
    "evaluate": "running",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("lm_eval", "datasets", "accelerate"):
            raise
        raise HarnessError(f"{error.name} is not installed: pip install 'circuitkit[eval]'") from error


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
