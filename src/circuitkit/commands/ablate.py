"""`circuitkit ablate`: what the model loses with one head at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from circuitkit.commands.loading import LoadAs, load
from circuitkit.commands.prompts import pairs_in, pairs_of
from circuitkit.commands.writing import tell, write_result


def ablate(
    model: str,
    *,
    how: Literal["zero", "mean", "resample"] = "mean",
    heads: Annotated[list[str] | None, Parameter(negative="")] = None,
    pairs: Path | None = None,
    metric: Literal["logit_difference", "probability", "kl", "cross_entropy", "log_probability"] = "logit_difference",
    n: int = 48,
    seed: int = 0,
    out: Path = Path("ablation"),
    load_as: LoadAs | None = None,
) -> None:
    """Ablate one attention head at a time and measure what the clean run loses.

    Parameters
    ----------
    model
        An embedded model (deductor-130k), a folder, or a hub id.
    how
        zero: the head writes nothing. mean: its mean over these prompts. resample: its output on another prompt.
    heads
        Heads as layer.head, such as 2.1; all if not given.
    pairs
        Prompts as JSON lines with the fields clean, corrupt, answer, distractor; deductions drawn for the model if not
        given.
    metric
        What is measured.
    n
        How many prompts to draw, where no file is given.
    seed
        Of the draw, of resampling and of the statistics.
    out
        Folder for the result (safetensors), its table (CSV), figure (PNG) and provenance (JSON).
    """
    from circuitkit import ablation

    given = pairs_in(pairs)
    loaded = load(model, load_as)
    drawn = pairs_of(loaded, given, n)(seed)
    chosen: ablation.Heads = "all" if heads is None else [_head(text) for text in heads]
    result = ablation.sweep(loaded, drawn, chosen, how, metric, seed=seed)
    write_result(result, out, "heads")
    tell(result, out)


def _head(text: str) -> tuple[int, int]:
    layer, dot, head = text.partition(".")
    if not (dot and layer.isdigit() and head.isdigit()):
        raise ValueError(f"a head is written layer.head, such as 2.1, not {text!r}")
    return int(layer), int(head)
