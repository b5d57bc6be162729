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
    from circuitkit.circuits.comparing.failures import OUTCOMES, classify_failures
    from circuitkit.circuits.comparing.generating import generation_effects
    from circuitkit.circuits.comparing.generation_outcome import GenerationEffects
    from circuitkit.circuits.errors import CircuitError
    from circuitkit.circuits.evaluating.agreeing import Agreement, agreement
    from circuitkit.circuits.evaluating.baselines import magnitudes
    from circuitkit.circuits.evaluating.curve_outcome import Curve
    from circuitkit.circuits.evaluating.curves import curve
    from circuitkit.circuits.evaluating.faithful import Faithfulness, faithfulness
    from circuitkit.circuits.evaluating.recovery import auroc, average_precision
    from circuitkit.circuits.evaluating.resampled_circuits import stability
    from circuitkit.circuits.evaluating.running import run_circuit, run_circuits
    from circuitkit.circuits.evaluating.steadiness import Stability
    from circuitkit.circuits.graphs.convention import Convention
    from circuitkit.circuits.graphs.graph import Graph
    from circuitkit.circuits.graphs.layout import Layout

__all__ = [
    "METHODS",
    "OUTCOMES",
    "Agreement",
    "CircuitError",
    "Convention",
    "Curve",
    "Faithfulness",
    "GenerationEffects",
    "Graph",
    "Layout",
    "Stability",
    "agreement",
    "attribute",
    "auroc",
    "average_precision",
    "classify_failures",
    "curve",
    "faithfulness",
    "generation_effects",
    "magnitudes",
    "run_circuit",
    "run_circuits",
    "stability",
]

_HOMES = {
    **dict.fromkeys(("Agreement", "agreement"), "evaluating.agreeing"),
    "CircuitError": "errors",
    "METHODS": "attributing.methods",
    "attribute": "attributing.attribution",
    **dict.fromkeys(("OUTCOMES", "classify_failures"), "comparing.failures"),
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
    **dict.fromkeys(("run_circuit", "run_circuits"), "evaluating.running"),
    **dict.fromkeys(("Faithfulness", "faithfulness"), "evaluating.faithful"),
    "stability": "evaluating.resampled_circuits",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"circuitkit.circuits.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'circuitkit.circuits' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
