"""Figures: heat maps, edge maps, panels, bars and curves beside their controls, attention patterns, coloured tokens.

Every function draws on a fresh `Figure`, or, but for panels, on the axes it is given, and returns its `Axes` (of panels
the first one's); nothing is shown, and pyplot's global state is left alone. `save` writes the whole figure, as PNG and
as SVG.
"""

from circuitkit.plots.arcs import attention_arcs
from circuitkit.plots.circuits import circuit_graph, circuit_overlay
from circuitkit.plots.cohorts import activation_map, head_cohorts, head_survival
from circuitkit.plots.edges import edge_map
from circuitkit.plots.effects import bars
from circuitkit.plots.evaluation import accuracies
from circuitkit.plots.figures import new_axes
from circuitkit.plots.files import save
from circuitkit.plots.grid import heatmap
from circuitkit.plots.growth import growth_curve
from circuitkit.plots.harness import harness_means
from circuitkit.plots.heads import head_map
from circuitkit.plots.joint import joint_effects
from circuitkit.plots.panels import panels
from circuitkit.plots.pattern import attention_pattern
from circuitkit.plots.self_repair import total_and_direct
from circuitkit.plots.sfn_histograms import ChangeShape, relative_changes
from circuitkit.plots.sfn_trajectory import module_trajectory
from circuitkit.plots.size_panels import size_panels
from circuitkit.plots.study import of_result
from circuitkit.plots.text import tokens
from circuitkit.plots.threshold import accuracy_against_size, models_against
from circuitkit.plots.training import training_curves

__all__ = [
    "ChangeShape",
    "accuracies",
    "accuracy_against_size",
    "activation_map",
    "attention_arcs",
    "attention_pattern",
    "bars",
    "circuit_graph",
    "circuit_overlay",
    "edge_map",
    "growth_curve",
    "harness_means",
    "head_cohorts",
    "head_map",
    "head_survival",
    "heatmap",
    "joint_effects",
    "models_against",
    "module_trajectory",
    "new_axes",
    "of_result",
    "panels",
    "relative_changes",
    "save",
    "size_panels",
    "tokens",
    "total_and_direct",
    "training_curves",
]
