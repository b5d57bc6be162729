"""`circuitkit patch`: which activations, moved between a clean and a corrupt run, move the answer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from circuitkit.commands.loading import LoadAs, load
from circuitkit.commands.prompts import pairs_in, pairs_of
from circuitkit.commands.writing import tell, write_result


def patch(
    model: str,
    *,
    over: str = "resid_pre",
    pairs: Path | None = None,
    metric: Literal["logit_difference", "probability", "kl", "cross_entropy", "log_probability"] = "logit_difference",
    direction: Literal["denoise", "noise"] = "denoise",
    layers: Annotated[list[int] | None, Parameter(negative="")] = None,
    positions: Annotated[list[int] | None, Parameter(negative="")] = None,
    n: int = 48,
    seed: int = 0,
    out: Path = Path("patching"),
    load_as: LoadAs | None = None,
) -> None:
    """Patch one kind of activation everywhere, one cell at a time, and measure each.

    Parameters
    ----------
    model
        An embedded model (deductor-130k), a folder, or a hub id.
    over
        What to patch: resid_pre, resid_mid, resid_post, attn_out or mlp_out (layer x position), or q, k, v, z, scores
        or pattern (layer x head).
    pairs
        Clean and corrupt prompts as JSON lines with the fields clean, corrupt, answer, distractor; deductions drawn for
        the model if not given.
    metric
        What is measured.
    direction
        denoise: corrupt run, clean activations. noise: clean run, corrupt activations.
    layers
        Which layers; all if not given.
    positions
        Which positions, from 0, or negative from the end.
    n
        How many pairs to draw, where no file is given.
    seed
        Of the draw and of the statistics.
    out
        Folder for the result (safetensors), its table (CSV), figure (PNG) and provenance (JSON).
    """
    from circuitkit import patching

    given = pairs_in(pairs)
    loaded = load(model, load_as)
    drawn = pairs_of(loaded, given, n)(seed)
    result = patching.sweep(loaded, drawn, over, metric, direction, layers=layers, positions=positions, seed=seed)
    write_result(result, out, over)
    tell(result, out)
