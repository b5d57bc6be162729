"""`circuitkit patch trace`: where a model keeps what it knows of a subject."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from circuitkit.commands.loading import LoadAs, load
from circuitkit.commands.options import MetricName, Numbers, metric_of
from circuitkit.commands.patch.spans import span_of
from circuitkit.commands.prompts import PROMPTS, PairsFrom, load_with_pairs


def trace(
    model: str,
    *,
    subject: str,
    prompt: Annotated[str | None, Parameter(group=PROMPTS)] = None,
    answer: Annotated[str | None, Parameter(group=PROMPTS)] = None,
    over: Literal["resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out"] = "resid_post",
    window: int = 1,
    sigma: float = 3.0,
    draws: int = 10,
    layers: Numbers = None,
    positions: Numbers = None,
    metric: MetricName = "probability",
    prompts: PairsFrom | None = None,
    out: Path = Path("tracing"),
    load_as: LoadAs | None = None,
) -> None:
    """Drown a subject's embeddings in noise, restore one clean state at a time, and draw what each brings back.

    Example:

    ```
    circuitkit patch trace gpt2 --prompt "The Space Needle is in the city of" --subject "Space Needle"
    ```

    Parameters
    ----------
    model
        An embedded model (deductor-130k), a folder, or a hub id.
    subject
        The tokens that get the noise: a text that stands in the prompts, or another rule of a span, such as at:3,4 or
        role:fact; "circuitkit patch edges --help" has the rules.
    prompt
        One prompt to trace, instead of the clean prompts of pairs.
    answer
        What that prompt calls for, with its space (" Seattle"); the model's own likeliest next token if not given.
    over
        Which states are restored.
    window
        How many layers are restored together, each with the next layers among those named; the paper restores ten of
        attn_out or mlp_out.
    sigma
        How strong the noise is, in standard deviations of the prompts' embeddings.
    draws
        How many draws of the noise each value is averaged over.
    layers
        Which layers; all if not given.
    positions
        Which positions, from 0, or negative from the end; all if not given.
    metric
        What is measured; probability_difference is that of greater-than.
    out
        Folder for the result (safetensors), its table (CSV), figure (PNG, SVG) and provenance (JSON).
    """
    from circuitkit import patching
    from circuitkit.commands.telling import tell
    from circuitkit.writing import write_result

    chosen = prompts or PairsFrom()
    if prompt is None and answer is not None:
        raise ValueError("--answer goes with --prompt: pairs have answers of their own")
    if prompt is not None and (chosen.pairs is not None or chosen.task is not None):
        raise ValueError("--prompt names what is traced: give it, or --pairs, or --task")
    if draws < 1:
        raise ValueError(f"--draws {draws} draws no noise: give 1 or more")
    span = span_of(subject)
    loaded, traced = load_with_pairs(model, load_as, chosen) if prompt is None else (load(model, load_as), [prompt])
    result = patching.trace(
        loaded,
        traced,
        None if answer is None else [answer],
        subject=span,
        over=over,
        window=window,
        sigma=sigma,
        seeds=range(chosen.seed, chosen.seed + draws),
        metric=metric_of(metric, loaded),
        layers=layers,
        positions=positions,
        seed=chosen.seed,
    )
    write_result(result, out, "tracing", traced)
    tell(result, out)
