"""`circuitkit ablate neurons`: one MLP neuron at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from circuitkit.commands.ablate.options import Prompt, pairs_of_numbers, read
from circuitkit.commands.loading import LoadAs
from circuitkit.commands.options import MetricName, Numbers, Words, metric_of
from circuitkit.commands.prompts import PairsFrom, prompts_in

if TYPE_CHECKING:
    from circuitkit.model import Model


def neurons(
    model: str,
    *,
    neurons: Words = None,
    layers: Numbers = None,
    how: Literal["zero", "mean"] = "mean",
    reference: Path | None = None,
    metric: MetricName | None = None,
    prompt: Prompt = None,
    prompts: PairsFrom | None = None,
    out: Path = Path("neurons"),
    load_as: LoadAs | None = None,
) -> None:
    """Ablate one MLP neuron at a time and measure what the clean run loses.

    Example:

    ```
    circuitkit ablate neurons deductor-130k --layers 0
    ```

    Parameters
    ----------
    model
        An embedded model (deductor-130k), a folder, or a hub id.
    neurons
        Which neurons, as layer.neuron, such as 0.17 2.3.
    layers
        All neurons of which layers, such as 0 2; of all layers if no neurons are named either.
    how
        zero: a neuron is silent. mean: it is held at its mean over prompts.
    reference
        For mean: a file with the prompts that it comes from, one a line, or JSON lines; the ablated prompts themselves
        if not given.
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

    if neurons is not None and layers is not None:
        raise ValueError("--layers names all neurons of a layer and --neurons single ones: give one of the two")
    if reference is not None and how != "mean":
        raise ValueError(f"--reference goes with --how mean, and --how is {how}")
    chosen = prompts or PairsFrom()
    named = None if neurons is None else pairs_of_numbers(neurons, "neuron")
    others = None if reference is None else prompts_in(reference)
    loaded, texts = read(model, load_as, chosen, prompt)
    measured = None if metric is None else metric_of(metric, loaded)
    result = ablation.neurons.sweep(
        loaded,
        texts,
        _all_of(loaded, layers) if named is None else named,
        how,
        measured,
        reference=others,
        seed=chosen.seed,
    )
    write_result(result, out, "neurons", texts)
    tell(result, out)


def _all_of(model: Model, layers: Sequence[int] | None) -> list[tuple[int, int]]:
    """All neurons of some layers, or of all."""
    from circuitkit.ablation.neurons import neuron_site

    at = range(model.n_layers) if layers is None else layers
    sites = {layer: neuron_site(model, layer) for layer in at}
    kept = model.run([[0]], capture=list(sites.values()), logits_at=-1).cache
    return [(layer, neuron) for layer, site in sites.items() for neuron in range(kept[site].shape[-1])]
