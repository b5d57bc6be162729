"""`circuitkit ablate MODEL`: one head at a time."""

from __future__ import annotations

from pathlib import Path

from circuitkit.commands.ablate.options import Prompt, Way, heads_of, read
from circuitkit.commands.loading import LoadAs
from circuitkit.commands.options import MetricName, Words, metric_of
from circuitkit.commands.prompts import PairsFrom


def heads(
    model: str,
    *,
    heads: Words = None,
    way: Way | None = None,
    metric: MetricName | None = None,
    prompt: Prompt = None,
    prompts: PairsFrom | None = None,
    out: Path = Path("ablation"),
    load_as: LoadAs | None = None,
) -> None:
    """Ablate one attention head at a time and measure what the clean run loses.

    Parameters
    ----------
    model
        An embedded model (deductor-130k), a folder, or a hub id.
    heads
        Which heads, as layer.head, such as 2.1 2.3; all if not given.
    metric
        What is measured; the logit difference of pairs with a distractor if not given, the KL from the clean run else.
    prompt
        A prompt to read instead of pairs, whose answer is then the model's own likeliest next token; may be repeated.
    out
        Folder for the result (safetensors), its table (CSV), figure (PNG, SVG) and provenance (JSON).
    """
    from circuitkit import ablation
    from circuitkit.commands.telling import tell
    from circuitkit.writing import write_result

    chosen = prompts or PairsFrom()
    settings = (way or Way()).settings()
    named = heads_of(heads)
    loaded, texts = read(model, load_as, chosen, prompt)
    measured = None if metric is None else metric_of(metric, loaded)
    result = ablation.sweep(loaded, texts, named, metric=measured, seed=chosen.seed, **settings)
    write_result(result, out, "heads", texts)
    tell(result, out)
