"""`circuitkit ablate sets` and `grow`: heads ablated together, beside random sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from circuitkit.commands.ablate.options import Prompt, Way, heads_of, read, sets_of_heads
from circuitkit.commands.loading import LoadAs
from circuitkit.commands.options import MetricName, Words, metric_of
from circuitkit.commands.prompts import PairsFrom

_BESIDE = ["effect", "low", "high", "p_corrected", "control_mean", "control_low", "control_high", "control_p"]


def sets(
    model: str,
    *,
    sets: Annotated[list[str], Parameter(name="--set", negative="")],
    controls: int = 20,
    way: Way | None = None,
    metric: MetricName | None = None,
    prompt: Prompt = None,
    prompts: PairsFrom | None = None,
    out: Path = Path("sets"),
    load_as: LoadAs | None = None,
) -> None:
    """Ablate sets of heads, the heads of a set together, each beside random sets of the same layers and size.

    Example:

    ```
    circuitkit ablate sets deductor-130k --set early=0.1,0.2 --set late=2.1,2.3
    ```

    Parameters
    ----------
    model
        An embedded model (deductor-130k), a folder, or a hub id.
    sets
        A set of heads, NAME=HEAD,HEAD, such as movers=2.1,2.3; say it again for each further set.
    controls
        How many random sets, with as many heads in each layer, to set beside each; 0 for none.
    metric
        What is measured; the logit difference of pairs with a distractor if not given, the KL from the clean run else.
    prompt
        A prompt to read instead of pairs, whose answer is then the model's own likeliest next token; may be repeated.
    out
        Folder for the result (safetensors), its table (CSV), figure (PNG, SVG) and provenance (JSON).
    """
    from circuitkit import ablation, plots
    from circuitkit.commands.telling import tell_study
    from circuitkit.writing import write_study

    chosen = prompts or PairsFrom()
    settings = (way or Way()).settings()
    named = sets_of_heads(sets)
    loaded, texts = read(model, load_as, chosen, prompt)
    measured = None if metric is None else metric_of(metric, loaded)
    joint = ablation.sets(loaded, texts, named, metric=measured, controls=controls, seed=chosen.seed, **settings)
    write_study(out, "sets", {"sets": joint.result}, joint.frame, plots.joint_effects(joint), texts)
    tell_study(joint.result, joint.frame[["set_label", *_BESIDE]], [joint.result], out)


def grow(
    model: str,
    *,
    size: int,
    heads: Words = None,
    controls: int = 20,
    way: Way | None = None,
    metric: MetricName | None = None,
    prompt: Prompt = None,
    prompts: PairsFrom | None = None,
    out: Path = Path("growth"),
    load_as: LoadAs | None = None,
) -> None:
    """Grow a set of heads: at each step comes the head whose ablation, with those before, costs most.

    The set is measured on the prompts that it was grown on, so its effect is an optimistic one; measure it again on
    others with "circuitkit ablate sets". Example:

    ```
    circuitkit ablate grow deductor-130k --size 4
    ```

    Parameters
    ----------
    model
        An embedded model (deductor-130k), a folder, or a hub id.
    size
        How many heads.
    heads
        Which heads to choose from, as layer.head, such as 2.1 2.3; all if not given.
    controls
        How many random sets, with as many heads in each layer, to set beside each size.
    metric
        What is measured; the logit difference of pairs with a distractor if not given, the KL from the clean run else.
    prompt
        A prompt to read instead of pairs, whose answer is then the model's own likeliest next token; may be repeated.
    out
        Folder for the result (safetensors), its table (CSV), figure (PNG, SVG) and provenance (JSON).
    """
    from circuitkit import ablation, plots
    from circuitkit.commands.telling import tell_study
    from circuitkit.writing import write_study

    chosen = prompts or PairsFrom()
    settings = (way or Way()).settings()
    named = heads_of(heads)
    loaded, texts = read(model, load_as, chosen, prompt)
    measured = None if metric is None else metric_of(metric, loaded)
    growth = ablation.grow(
        loaded, texts, size, heads=named, metric=measured, controls=controls, seed=chosen.seed, **settings
    )
    write_study(out, "growth", {"growth": growth.result}, growth.frame, plots.growth_curve(growth), texts)
    tell_study(growth.result, growth.frame[["size", "layer", "head", *_BESIDE]], [growth.result], out)
