"""Circuits: which edges between heads and MLPs carry a behaviour, what they do alone, and what training changes there.

Edge attribution (EAP, EAP-IG, AtP*) and exact edge patching give a `Graph` of scores; a graph is cut to a circuit, run
with everything else patched, and held against others. Syed et al. 2023 (arXiv 2310.10348), Hanna et al. 2024 (arXiv
2403.17806), Kramár et al. 2024 (arXiv 2403.00745). Names are loaded when they are used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from circuitkit.circuits.attributing.attribution import attribute
    from circuitkit.circuits.attributing.methods import METHODS
    from circuitkit.circuits.attributing.node_scores import NodeScores
    from circuitkit.circuits.attributing.nodes import NODE_METHODS, attribute_nodes
    from circuitkit.circuits.comparing.cohorts_of_heads import Cohorts, cohorts
    from circuitkit.circuits.comparing.complexity_changes import ComplexityChange, compare_complexity
    from circuitkit.circuits.comparing.cross_patching import CrossPatch, cross_patch
    from circuitkit.circuits.comparing.emergence import emergent_heads
    from circuitkit.circuits.comparing.failures import OUTCOMES, classify_failures
    from circuitkit.circuits.comparing.generating import generation_effects
    from circuitkit.circuits.comparing.generation_outcome import GenerationEffects
    from circuitkit.circuits.comparing.head_changes import HeadChanges
    from circuitkit.circuits.comparing.importance_effects import HeadEffects, effect
    from circuitkit.circuits.comparing.openings import deductions_with_openings, written_openings
    from circuitkit.circuits.comparing.overlapping import Overlap, overlap
    from circuitkit.circuits.comparing.thinking import ThinkingPairs, thinking_pairs
    from circuitkit.circuits.errors import CircuitError
    from circuitkit.circuits.evaluating.against_exact import AgainstExact, against_exact
    from circuitkit.circuits.evaluating.agreeing import Agreement, agreement
    from circuitkit.circuits.evaluating.alone import run_circuit, run_circuits
    from circuitkit.circuits.evaluating.baselines import magnitudes
    from circuitkit.circuits.evaluating.complete import Completeness, completeness
    from circuitkit.circuits.evaluating.curve_outcome import Curve
    from circuitkit.circuits.evaluating.curves import curve
    from circuitkit.circuits.evaluating.faithful import Faithfulness, faithfulness
    from circuitkit.circuits.evaluating.minimal import Minimality, minimality
    from circuitkit.circuits.evaluating.recovery import auroc, average_precision
    from circuitkit.circuits.evaluating.resampled_circuits import stability
    from circuitkit.circuits.evaluating.steadiness import Stability
    from circuitkit.circuits.graphs.convention import Convention
    from circuitkit.circuits.graphs.graph import Graph
    from circuitkit.circuits.graphs.layout import Layout

__all__ = [
    "METHODS",
    "NODE_METHODS",
    "OUTCOMES",
    "AgainstExact",
    "Agreement",
    "CircuitError",
    "Cohorts",
    "Completeness",
    "ComplexityChange",
    "Convention",
    "CrossPatch",
    "Curve",
    "Faithfulness",
    "GenerationEffects",
    "Graph",
    "HeadChanges",
    "HeadEffects",
    "Layout",
    "Minimality",
    "NodeScores",
    "Overlap",
    "Stability",
    "ThinkingPairs",
    "against_exact",
    "agreement",
    "attribute",
    "attribute_nodes",
    "auroc",
    "average_precision",
    "classify_failures",
    "cohorts",
    "compare_complexity",
    "completeness",
    "cross_patch",
    "curve",
    "deductions_with_openings",
    "effect",
    "emergent_heads",
    "faithfulness",
    "generation_effects",
    "magnitudes",
    "minimality",
    "overlap",
    "run_circuit",
    "run_circuits",
    "stability",
    "thinking_pairs",
    "written_openings",
]

_HOMES = {
    **dict.fromkeys(("AgainstExact", "against_exact"), "evaluating.against_exact"),
    **dict.fromkeys(("Agreement", "agreement"), "evaluating.agreeing"),
    "CircuitError": "errors",
    "METHODS": "attributing.methods",
    "NodeScores": "attributing.node_scores",
    "attribute": "attributing.attribution",
    **dict.fromkeys(("NODE_METHODS", "attribute_nodes"), "attributing.nodes"),
    **dict.fromkeys(("OUTCOMES", "classify_failures"), "comparing.failures"),
    **dict.fromkeys(("Cohorts", "cohorts"), "comparing.cohorts_of_heads"),
    **dict.fromkeys(("ComplexityChange", "compare_complexity"), "comparing.complexity_changes"),
    **dict.fromkeys(("CrossPatch", "cross_patch"), "comparing.cross_patching"),
    **dict.fromkeys(("deductions_with_openings", "written_openings"), "comparing.openings"),
    **dict.fromkeys(("ThinkingPairs", "thinking_pairs"), "comparing.thinking"),
    "HeadChanges": "comparing.head_changes",
    "emergent_heads": "comparing.emergence",
    **dict.fromkeys(("HeadEffects", "effect"), "comparing.importance_effects"),
    **dict.fromkeys(("Overlap", "overlap"), "comparing.overlapping"),
    "GenerationEffects": "comparing.generation_outcome",
    "generation_effects": "comparing.generating",
    "Convention": "graphs.convention",
    "Graph": "graphs.graph",
    "Layout": "graphs.layout",
    "Stability": "evaluating.steadiness",
    "Curve": "evaluating.curve_outcome",
    "curve": "evaluating.curves",
    "magnitudes": "evaluating.baselines",
    **dict.fromkeys(("auroc", "average_precision"), "evaluating.recovery"),
    **dict.fromkeys(("run_circuit", "run_circuits"), "evaluating.alone"),
    **dict.fromkeys(("Completeness", "completeness"), "evaluating.complete"),
    **dict.fromkeys(("Faithfulness", "faithfulness"), "evaluating.faithful"),
    **dict.fromkeys(("Minimality", "minimality"), "evaluating.minimal"),
    "stability": "evaluating.resampled_circuits",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"circuitkit.circuits.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'circuitkit.circuits' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
