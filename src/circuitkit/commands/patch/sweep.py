"""`circuitkit patch MODEL`: one kind of activation patched everywhere, or sets of sites."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from circuitkit.commands.loading import LoadAs
from circuitkit.commands.options import MetricName, Numbers, metric_of
from circuitkit.commands.patch.axes import without_single
from circuitkit.commands.patch.options import Direction
from circuitkit.commands.patch.sites import sets_of
from circuitkit.commands.prompts import PairsFrom, load_with_pairs, prompts_in

SOURCE = Group("Source", sort_key=2)


def sweep(
    model: str,
    *,
    over: str | None = None,
    sets: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    layers: Numbers = None,
    positions: Numbers = None,
    keys: Numbers = None,
    window: int = 1,
    controls: int = 20,
    direction: Direction = "denoise",
    metric: MetricName = "logit_difference",
    source: Annotated[Literal["pair", "mean"], Parameter(group=SOURCE)] = "pair",
    reference: Annotated[Path | None, Parameter(group=SOURCE)] = None,
    from_prompt: Annotated[str | None, Parameter(group=SOURCE)] = None,
    from_cache: Annotated[Path | None, Parameter(group=SOURCE)] = None,
    prompts: PairsFrom | None = None,
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
        or pattern (layer x head); resid_pre if neither this nor a set is given.
    sets
        A set of sites patched together, NAME=SITE+SITE, such as early=z.0.1+z.0.2; say it again for each further set.
    layers
        Which layers, such as 0 2; all if not given.
    positions
        Which positions, from 0, or negative from the end, such as -2 -1; of scores and pattern, those attended from.
    keys
        Of scores and pattern, which positions attended to, each by itself; all together if not given.
    window
        How many layers are patched together, each with the next layers among those named.
    controls
        How many random sets, with as many heads of the same kinds in each layer, to patch beside each set of heads.
    direction
        denoise: corrupt run, clean activations. noise: clean run, corrupt activations.
    metric
        What is measured; probability_difference is that of greater-than.
    source
        Where patched values come from. pair: the pair's other run. mean: their mean at each position over the
        reference prompts.
    reference
        For a mean: a file of prompts, one a line, or JSON lines; the pairs' other prompts if not given.
    from_prompt
        Patch values from a run on this prompt instead, as long as the pairs'.
    from_cache
        Patch values from this file instead, a cache that was saved (safetensors).
    out
        Folder for the result (safetensors), its table (CSV), figure (PNG, SVG) and provenance (JSON).
    """
    from circuitkit import patching
    from circuitkit.commands.telling import tell
    from circuitkit.writing import write_result

    named = None if sets is None else sets_of(sets)
    others = None if reference is None else prompts_in(reference)
    if (from_prompt is not None) + (from_cache is not None) + (source == "mean") > 1:
        raise ValueError("--source mean, --from-prompt and --from-cache each name the values: give one of them")
    loaded, pairs = load_with_pairs(model, load_as, prompts or PairsFrom())
    result = patching.sweep(
        loaded,
        pairs,
        over,
        metric_of(metric, loaded),
        direction,
        layers=layers,
        positions=positions,
        keys=keys,
        window=window,
        sets=named,
        controls=controls,
        source=_source(source, from_prompt, from_cache),
        reference=others,
        seed=(prompts or PairsFrom()).seed,
    )
    result = without_single(result)
    write_result(result, out, "sets" if named is not None else over or "resid_pre", pairs)
    tell(result, out)


def _source(source: Literal["pair", "mean"], from_prompt: str | None, from_cache: Path | None) -> Any:
    from circuitkit.run import Cache

    if from_cache is None:
        return source if from_prompt is None else [from_prompt]
    return Cache.load(from_cache)
