"""Activation patching: which activations, moved between a clean and a corrupt run, move the answer."""

from circuitkit.patching.grid import sweep

__all__ = ["sweep"]
