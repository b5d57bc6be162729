"""Ablation: what the model loses when a part of it writes nothing, its mean, or another prompt's output."""

from circuitkit.ablation.heads import Heads, How, ablate, sweep

__all__ = ["Heads", "How", "ablate", "sweep"]
