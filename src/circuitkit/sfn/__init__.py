"""Stethoscope for Networks: what differs between two checkpoints, and what each difference does.

Checkpoints of any size, opened as streams of blocks; their differences measured (Delta), parts of one put into another
(Merge), trained alone (Freeze), or destroyed. Shao & Wu 2025, "Who Reasons in the Large Language Models?"
(arXiv 2505.20993). Names are loaded when they are used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from circuitkit.sfn.destructions.destruction import Destroyed, DestructionError, destroy
    from circuitkit.sfn.differences.comparison import delta
    from circuitkit.sfn.differences.outcome import Delta
    from circuitkit.sfn.errors import CheckpointError, PairError, SelectionError, SfnError
    from circuitkit.sfn.live.contexts import destroyed, grafted
    from circuitkit.sfn.live.freezing import FreezeError, Frozen, freeze
    from circuitkit.sfn.live.homes import LiveError
    from circuitkit.sfn.live.movement import Moved, MovedError, moved
    from circuitkit.sfn.live.plugin_file import PluginError
    from circuitkit.sfn.live.plugins import attached, save_plugin
    from circuitkit.sfn.merges.grafting import MergeError
    from circuitkit.sfn.merges.merging import Donor, Merged, merge
    from circuitkit.sfn.response_levels.calibration import Calibration
    from circuitkit.sfn.response_levels.errors import LevelError
    from circuitkit.sfn.response_levels.grading import levels
    from circuitkit.sfn.response_levels.level_table import Condition, LevelTable
    from circuitkit.sfn.response_levels.outcome import Levels
    from circuitkit.sfn.streams.checkpoint import Checkpoint
    from circuitkit.sfn.streams.parts import Part, live_parts
    from circuitkit.sfn.streams.selection import Paired, pair, select
    from circuitkit.sfn.written.manifest import Manifest, ManifestError
    from circuitkit.sfn.written.whole_folder import WritingError

__all__ = [
    "Calibration",
    "Checkpoint",
    "CheckpointError",
    "Condition",
    "Delta",
    "Destroyed",
    "DestructionError",
    "Donor",
    "FreezeError",
    "Frozen",
    "LevelError",
    "LevelTable",
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
    "Checkpoint": "streams.checkpoint",
    **dict.fromkeys(("Destroyed", "DestructionError", "destroy"), "destructions.destruction"),
    **dict.fromkeys(("CheckpointError", "PairError", "SelectionError", "SfnError"), "errors"),
    **dict.fromkeys(("destroyed", "grafted"), "live.contexts"),
    **dict.fromkeys(("FreezeError", "Frozen", "freeze"), "live.freezing"),
    "Calibration": "response_levels.calibration",
    "LevelError": "response_levels.errors",
    "levels": "response_levels.grading",
    "Levels": "response_levels.outcome",
    "LevelTable": "response_levels.level_table",
    "Condition": "response_levels.level_table",
    "LiveError": "live.homes",
    "PluginError": "live.plugin_file",
    **dict.fromkeys(("attached", "save_plugin"), "live.plugins"),
    "MergeError": "merges.grafting",
    "WritingError": "written.whole_folder",
    **dict.fromkeys(("Manifest", "ManifestError"), "written.manifest"),
    **dict.fromkeys(("Donor", "Merged", "merge"), "merges.merging"),
    **dict.fromkeys(("Moved", "MovedError", "moved"), "live.movement"),
    **dict.fromkeys(("Part", "live_parts"), "streams.parts"),
    **dict.fromkeys(("Paired", "pair", "select"), "streams.selection"),
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"circuitkit.sfn.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'circuitkit.sfn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
