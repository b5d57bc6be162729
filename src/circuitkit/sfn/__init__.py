"""Stethoscope for Networks: what differs between two checkpoints, and what each difference does.

Checkpoints of any size, opened as streams of blocks; their differences measured (Delta), parts of one put into another
(Merge), trained alone (Freeze), or destroyed. Shao & Wu 2025, "Who Reasons in the Large Language Models?"
(arXiv 2505.20993). Names are loaded when they are used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from circuitkit.sfn.checkpoint import Checkpoint
    from circuitkit.sfn.contexts import destroyed, grafted
    from circuitkit.sfn.destruction import Destroyed, DestructionError, destroy
    from circuitkit.sfn.differences.comparison import delta
    from circuitkit.sfn.differences.outcome import Delta
    from circuitkit.sfn.errors import CheckpointError, PairError, SelectionError, SfnError
    from circuitkit.sfn.freezing import FreezeError, Frozen, freeze
    from circuitkit.sfn.grafting import MergeError
    from circuitkit.sfn.homes import LiveError
    from circuitkit.sfn.manifest import Manifest, ManifestError
    from circuitkit.sfn.merging import Donor, Merged, merge
    from circuitkit.sfn.movement import Moved, MovedError, moved
    from circuitkit.sfn.parts import Part, live_parts
    from circuitkit.sfn.plugin_file import PluginError
    from circuitkit.sfn.plugins import attached, save_plugin
    from circuitkit.sfn.response_levels.calibration import Calibration
    from circuitkit.sfn.response_levels.errors import LevelError
    from circuitkit.sfn.response_levels.grading import levels
    from circuitkit.sfn.response_levels.outcome import Levels
    from circuitkit.sfn.selection import Paired, pair, select
    from circuitkit.sfn.whole_folder import WritingError

__all__ = [
    "Calibration",
    "Checkpoint",
    "CheckpointError",
    "Delta",
    "Destroyed",
    "DestructionError",
    "Donor",
    "FreezeError",
    "Frozen",
    "LevelError",
    "Levels",
    "LiveError",
    "Manifest",
    "ManifestError",
    "MergeError",
    "Merged",
    "Moved",
    "MovedError",
    "PairError",
    "Paired",
    "Part",
    "PluginError",
    "SelectionError",
    "SfnError",
    "WritingError",
    "attached",
    "delta",
    "destroy",
    "destroyed",
    "freeze",
    "grafted",
    "levels",
    "live_parts",
    "merge",
    "moved",
    "pair",
    "save_plugin",
    "select",
]

_HOMES = {
    "Delta": "differences.outcome",
    "delta": "differences.comparison",
    "Checkpoint": "checkpoint",
    **dict.fromkeys(("Destroyed", "DestructionError", "destroy"), "destruction"),
    **dict.fromkeys(("CheckpointError", "PairError", "SelectionError", "SfnError"), "errors"),
    **dict.fromkeys(("destroyed", "grafted"), "contexts"),
    **dict.fromkeys(("FreezeError", "Frozen", "freeze"), "freezing"),
    "Calibration": "response_levels.calibration",
    "LevelError": "response_levels.errors",
    "levels": "response_levels.grading",
    "Levels": "response_levels.outcome",
    "LiveError": "homes",
    "PluginError": "plugin_file",
    **dict.fromkeys(("attached", "save_plugin"), "plugins"),
    "MergeError": "grafting",
    "WritingError": "whole_folder",
    **dict.fromkeys(("Manifest", "ManifestError"), "manifest"),
    **dict.fromkeys(("Donor", "Merged", "merge"), "merging"),
    **dict.fromkeys(("Moved", "MovedError", "moved"), "movement"),
    **dict.fromkeys(("Part", "live_parts"), "parts"),
    **dict.fromkeys(("Paired", "pair", "select"), "selection"),
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"circuitkit.sfn.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'circuitkit.sfn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
