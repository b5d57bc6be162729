"""Figures: heat maps, bars beside their controls, attention patterns, coloured tokens.

Every function draws on a fresh `Figure` or on the axes it is given, and returns its `Axes`; nothing is shown,
and pyplot's global state is left alone. `save` writes the figure as PNG.
"""

from circuitkit.plots.effects import bars
from circuitkit.plots.figures import new_axes, save
from circuitkit.plots.grid import heatmap
from circuitkit.plots.pattern import attention_pattern
from circuitkit.plots.study import of_result
from circuitkit.plots.text import tokens

__all__ = ["attention_pattern", "bars", "heatmap", "new_axes", "of_result", "save", "tokens"]
