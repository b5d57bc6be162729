"""The demonstration: the main job of the toolkit, on a model small enough to carry along."""

from circuitkit.demo.findings import Findings
from circuitkit.demo.study import demonstrate

__all__ = ["Findings", "demonstrate"]
