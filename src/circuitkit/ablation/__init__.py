"""Ablation: what the model loses when a part of it writes nothing, its mean, or another prompt's output."""

from circuitkit.ablation import neurons
from circuitkit.ablation.growth import Growth, grow
from circuitkit.ablation.head_sites import Heads
from circuitkit.ablation.heads import ablate, sweep
from circuitkit.ablation.joint import Joint, sets
from circuitkit.ablation.replacements import How
from circuitkit.ablation.self_repair import Effects, effects

__all__ = ["Effects", "Growth", "Heads", "How", "Joint", "ablate", "effects", "grow", "neurons", "sets", "sweep"]
