"""`circuitkit demo`: the main job, on a model that the package carries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from circuitkit.commands.loading import LoadAs, load
from circuitkit.commands.prompts import pairs_of
from circuitkit.model import Model


def demo(
    model: str = "deductor-1m",
    *,
    out: Path = Path("demo"),
    random_weights: Annotated[bool, Parameter(negative="")] = False,
    n: int = 48,
    seed: int = 0,
    load_as: LoadAs | None = None,
) -> None:
    """Find the heads that carry a deduction: patch, ablate, capture attention, and say what came out.

    Parameters
    ----------
    model
        An embedded model, a planted one (planted-induction-llama), a folder, or a hub id.
    out
        Folder for figures (PNG, SVG), tables (CSV), results (safetensors) and provenance (JSON).
    random_weights
        Draw the model's weights anew first: what the demo says where there is nothing to find.
    n
        How many pairs of deductions to draw.
    seed
        Of the draw and of the statistics.
    """
    from circuitkit.demo import demonstrate

    loaded = load(model, load_as)
    draw = pairs_of(loaded, None, n)
    if random_weights:
        loaded = _reinitialised(loaded, seed)
    findings = demonstrate(loaded, draw, out, seed=seed)
    print("\n".join(findings.sentences()))
    print(f"Figures, tables and provenance are in {out}/")


def _reinitialised(model: Model, seed: int) -> Model:
    """The same architecture with weights drawn anew."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        fresh = type(model.anatomy.root)(model.anatomy.root.config).eval()
    return Model(fresh, model.tokenizer, name=f"{model.name} with random weights")
