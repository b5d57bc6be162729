"""`circuitkit patch edges`, `transplant` and `freeze`: attention cut, forced, moved and held."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from circuitkit.commands.loading import LoadAs, load
from circuitkit.commands.options import MetricName, Numbers, Words, metric_of
from circuitkit.commands.patch.axes import without_single
from circuitkit.commands.patch.options import Direction, Spans
from circuitkit.commands.patch.sites import heads_of
from circuitkit.commands.patch.spans import side_of, spans_of
from circuitkit.commands.prompts import PROMPTS, PairsFrom, load_with_pairs

if TYPE_CHECKING:
    from circuitkit.model import Model, Site


def edges(
    model: str,
    *,
    spans: Annotated[Spans, Parameter(required=True)] = None,
    prompt: Annotated[list[str] | None, Parameter(group=PROMPTS, negative="")] = None,
    how: Literal["knockout", "force"] = "knockout",
    weight: float = 1.0,
    per: Literal["model", "layer", "head"] = "model",
    layers: Numbers = None,
    heads: Words = None,
    metric: MetricName | None = None,
    prompts: PairsFrom | None = None,
    out: Path = Path("edges"),
    load_as: LoadAs | None = None,
) -> None:
    """Cut, or force, attention from each span to each, and draw the map of what that does to the answer.

    A span is NAME=RULE, and each prompt has it in its own place. The rule is one of

    - a text, at its first occurrence: "Every wumpus"; text:wumpus[-1] is the last, text:wumpus[all] all of them
    - a role in PrOntoQA's prompts: role:rule, or the first alone, role:rule[0]; there are exchange, question, theory,
      query, rule, fact, premise, proof and step
    - a part of speech: speech:concept, or the first alone, speech:concept[0]; there are function, entity, concept and
      property
    - positions: at:0,-1
    - one within another: "speech:concept in role:rule"

    Examples:

    ```
    circuitkit patch edges deductor-130k --span rules=role:rule --span fact=role:fact --span last=at:-1
    circuitkit patch edges gpt2 --prompt "Rome is in Italy. Rome is in" --span rome=Rome --span last=at:-1 --per layer
    circuitkit patch edges deductor-130k --span q=role:question --span last=at:-1 --how force --per layer
    ```

    Parameters
    ----------
    model
        An embedded model (deductor-130k), a folder, or a hub id.
    spans
        A span, NAME=RULE, such as rule="Every wumpus is a dumpus"; say it again for each further span.
    prompt
        A prompt to read instead of pairs, whose answer is then the model's own likeliest next token; may be repeated.
    how
        knockout: forbid the attention, the other tokens sharing it. force: put the attention there.
    weight
        How much of each query's attention is forced, from 0 to 1.
    per
        All layers together (model: span x span), or each layer or head by itself.
    layers
        In which layers; all if not given.
    heads
        In which heads alone, as layer.head, such as 2.1.
    metric
        What is measured; the logit difference of pairs with a distractor if not given, the KL from the clean run else.
    out
        Folder for the result (safetensors), its table (CSV), figure (PNG, SVG) and provenance (JSON).
    """
    from circuitkit import attention
    from circuitkit.commands.telling import tell
    from circuitkit.writing import write_result

    named, at = spans_of(spans or []), None if heads is None else heads_of(heads)
    chosen = prompts or PairsFrom()
    if prompt is not None and (chosen.pairs is not None or chosen.task is not None):
        raise ValueError("--prompt names what is read: give it, or --pairs, or --task")
    loaded, read = load_with_pairs(model, load_as, chosen) if prompt is None else (load(model, load_as), prompt)
    result = attention.edges(
        loaded,
        read,
        named,
        None if metric is None else metric_of(metric, loaded),
        layers=layers,
        heads=at,
        per=per,
        how=how,
        weight=weight,
        seed=chosen.seed,
    )
    write_result(result, out, "edges", read)
    tell(result, out)


def transplant(
    model: str,
    *,
    layers: Numbers = None,
    heads: Numbers = None,
    queries: Words = None,
    keys: Words = None,
    spans: Spans = None,
    direction: Direction = "denoise",
    metric: MetricName = "logit_difference",
    prompts: PairsFrom | None = None,
    out: Path = Path("transplant"),
    load_as: LoadAs | None = None,
) -> None:
    """Move attention patterns between the clean and the corrupt run, values being computed anew.

    Without queries and keys, whole patterns are moved (layer x head map), or, where one layer and one head are named,
    each edge by itself (query x key map). Examples:

    ```
    circuitkit patch transplant deductor-130k
    circuitkit patch transplant deductor-130k --layers 1 --heads 2
    circuitkit patch transplant deductor-130k --span rules=role:rule --queries -1 --keys rules
    ```

    Parameters
    ----------
    model
        An embedded model (deductor-130k), a folder, or a hub id.
    layers
        Which layers; all if not given.
    heads
        Which heads of each layer, by number; all if not given.
    queries
        Attention from where: all, each (position by itself), positions such as -2 -1, or names of spans.
    keys
        Attention to where, likewise.
    spans
        A span, NAME=RULE, such as rules=role:rule; "circuitkit patch edges --help" has the rules.
    direction
        denoise: corrupt run, clean attention. noise: clean run, corrupt attention.
    metric
        What is measured; probability_difference is that of greater-than.
    out
        Folder for the result (safetensors), its table (CSV), figure (PNG, SVG) and provenance (JSON).
    """
    from circuitkit import attention
    from circuitkit.commands.telling import tell
    from circuitkit.writing import write_result

    named = spans_of(spans or [])
    one = layers is not None and heads is not None and len(layers) == len(heads) == 1
    default = ["each" if one else "all"]
    sides = [side_of(f"--{side}", words or default, named) for side, words in (("queries", queries), ("keys", keys))]
    edge_map = sides != ["all", "all"]
    chosen = prompts or PairsFrom()
    loaded, pairs = load_with_pairs(model, load_as, chosen)
    result = attention.transplant(
        loaded,
        pairs,
        metric_of(metric, loaded),
        direction,
        layers=_alone(layers, edge_map),
        heads=_alone(heads, edge_map),
        queries=sides[0],
        keys=sides[1],
        seed=chosen.seed,
    )
    result = without_single(result)
    write_result(result, out, "transplant", pairs)
    tell(result, out)


def _alone(named: list[int] | None, edge_map: bool) -> int | list[int] | None:
    """One layer or head as a number, which has no axis, so that the edges are the map."""
    return named[0] if edge_map and named is not None and len(named) == 1 else named


def freeze(
    model: str,
    *,
    layers: Numbers = None,
    heads: Words = None,
    direction: Direction = "denoise",
    metric: MetricName = "logit_difference",
    prompts: PairsFrom | None = None,
    out: Path = Path("freeze"),
    load_as: LoadAs | None = None,
) -> None:
    """Hold attention patterns as they are in the other run while all values change, and measure what they carry.

    All patterns are held at once, and then those of each layer, or of each head that is named, alone. What all of
    them restore together is carried by where the model looks; the rest, by what it reads there.

    Parameters
    ----------
    model
        An embedded model (deductor-130k), a folder, or a hub id.
    layers
        In which layers; all if not given.
    heads
        In which heads alone, as layer.head, such as 2.1, instead of whole layers.
    direction
        denoise: corrupt run, clean patterns. noise: clean run, corrupt patterns.
    metric
        What is measured; probability_difference is that of greater-than.
    out
        Folder for the result (safetensors), its table (CSV), figure (PNG, SVG) and provenance (JSON).
    """
    from dataclasses import replace

    from circuitkit import patching
    from circuitkit.commands.telling import tell
    from circuitkit.writing import write_result

    if layers is not None and heads is not None:
        raise ValueError("--layers names whole layers and --heads single heads: give one of the two")
    at = None if heads is None else heads_of(heads)
    chosen = prompts or PairsFrom()
    loaded, pairs = load_with_pairs(model, load_as, chosen)
    held = _patterns(loaded, layers, at)
    sets = {f"all {len(held)}": tuple(held.values())} if len(held) > 1 else {}
    sets |= {name: (site,) for name, site in held.items()}
    measured = metric_of(metric, loaded)
    swept = patching.sweep(loaded, pairs, None, measured, direction, sets=sets, seed=chosen.seed)
    result = replace(swept, title=f"Patterns held as in the other run ({direction}), {loaded.name}")
    write_result(result, out, "freeze", pairs)
    tell(result, out)


def _patterns(model: Model, layers: list[int] | None, heads: list[tuple[int, int]] | None) -> dict[str, Site]:
    """The patterns that are held, by the names that the result has for them."""
    from circuitkit.model import Site

    if heads is not None:
        named = [Site("pattern", layer=layer, head=head) for layer, head in heads]
    else:
        named = [Site("pattern", layer=layer) for layer in layers or model.layers_with("pattern")]
    sites = [site for each in named for site in model.sites(each)]
    return {f"layer {site.layer}" + ("" if site.head is None else f" head {site.head}"): site for site in sites}
