"""Activation patching: which activations, moved between a clean and a corrupt run, move the answer."""

from circuitkit.patching.grid import sweep
from circuitkit.patching.path_patching import direct_effects, paths
from circuitkit.patching.tracing import trace

__all__ = ["direct_effects", "paths", "sweep", "trace"]
