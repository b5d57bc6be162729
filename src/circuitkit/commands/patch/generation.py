"""`circuitkit patch generate`: what the model writes while its attention is cut, forced or held."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from circuitkit.commands.loading import LoadAs, load
from circuitkit.commands.options import Numbers, Words
from circuitkit.commands.patch.options import Spans
from circuitkit.commands.patch.sites import heads_of
from circuitkit.commands.patch.spans import side_of, spans_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from circuitkit.model import Model
    from circuitkit.run import Intervention

How = Literal["knockout", "force", "freeze"]


def generate(
    model: str,
    prompt: str,
    *,
    how: How = "knockout",
    queries: Words = None,
    keys: Words = None,
    spans: Spans = None,
    layers: Numbers = None,
    heads: Words = None,
    weight: float = 1.0,
    source: str | None = None,
    during: Literal["prompt", "generated", "both"] = "both",
    max_new_tokens: int = 40,
    out: Path = Path("generated"),
    load_as: LoadAs | None = None,
) -> None:
    """Write on from a prompt, greedily, with and without a change to attention, and show both.

    Examples:

    ```
    circuitkit patch generate deductor-130k "Q: …" --span rule="Every wumpus is a dumpus" --keys rule
    circuitkit patch generate gpt2 "Rome is in" --how force --keys 0 --heads 5.1 --weight 0.5
    circuitkit patch generate gpt2 "Rome is in" --how freeze --source "Bonn is in"
    ```

    Parameters
    ----------
    model
        An embedded model (deductor-130k), a folder, or a hub id.
    prompt
        The text to write on from.
    how
        knockout: forbid attention from queries to keys. force: put it there. freeze: hold it as in another run.
    queries
        Attention from where: all, positions such as -1, or names of spans; all if not given, generated tokens too.
    keys
        Attention to where, likewise.
    spans
        A span of the prompt, NAME=RULE, such as rule="Every wumpus is a dumpus"; "circuitkit patch edges --help" has
        the rules.
    layers
        In which layers; all if not given.
    heads
        In which heads alone, as layer.head, such as 2.1.
    weight
        How much of each query's attention is forced, from 0 to 1.
    source
        To freeze: the text whose patterns are held, at least as long as the prompt; tokens beyond it attend freely.
    during
        Whether it holds for queries in the prompt, in what is generated, or both.
    max_new_tokens
        How much is written at most.
    out
        Folder for both texts and their provenance (JSON).
    """
    from circuitkit.records import provenance
    from circuitkit.writing import write_json

    named, at = spans_of(spans or []), None if heads is None else heads_of(heads)
    if layers is not None and at is not None:
        raise ValueError("--layers names whole layers and --heads single heads: give one of the two")
    if (how == "freeze") != (source is not None):
        raise ValueError("--how freeze holds the patterns of a --source, which goes with it alone: give both")
    if how != "freeze" and keys is None:
        raise ValueError(f"--how {how} needs --keys: positions, or names of spans (--span rule='Every wumpus')")
    sides = [side_of(f"--{side}", words or ["all"], named) for side, words in (("queries", queries), ("keys", keys))]
    loaded = load(model, load_as)
    places = [_positions(loaded, prompt, side) for side in sides]
    changes = _changes(loaded, how, layers, at, places, weight, source, during)
    settings: dict[str, Any] = {"max_new_tokens": max_new_tokens, "do_sample": False}
    before = _written(loaded, prompt, settings)
    with loaded.intervene(changes):
        after = _written(loaded, prompt, settings)
    told = provenance(
        model_name=loaded.name, revision=loaded.revision, data=[prompt, source], study="patch generate", how=how
    )
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "generated.json", {"prompt": prompt, "unchanged": before, "changed": after})
    write_json(out / "provenance.json", told)
    print(f"unchanged:{before}\nchanged:{after}\n{'the same' if before == after else 'different'}; all is in {out}/")


def _positions(model: Model, prompt: str, side: Any) -> list[int] | None:
    """A side's positions in the prompt; None for all, generated ones too."""
    if side == "all":
        return None
    if isinstance(side, str):
        raise ValueError("what is written is one text: give all, positions or names of spans, not each")
    if isinstance(side, list):
        return side
    return sorted({place for span in side.values() for place in span.positions(model, [prompt])[0]})


def _changes(
    model: Model,
    how: How,
    layers: Sequence[int] | None,
    heads: Sequence[tuple[int, int]] | None,
    places: Sequence[list[int] | None],
    weight: float,
    source: str | None,
    during: Literal["prompt", "generated", "both"],
) -> list[Intervention]:
    from circuitkit import attention
    from circuitkit.run import knockout
    from circuitkit.run.interventions import between

    queries, keys = places
    if source is not None:
        held = attention.freeze(model, [source], layers=layers, heads=heads, during=during)
        return [between(each, queries, keys) for each in held]
    whole = [(layer, None) for layer in (model.layers_with("pattern") if layers is None else layers)]
    at: Sequence[tuple[int, int | None]] = whole if heads is None else heads
    if how == "force":
        return [attention.force(*each, queries=queries, keys=keys, weight=weight, during=during) for each in at]
    return [knockout(*each, queries=queries, keys=keys, during=during) for each in at]


def _written(model: Model, prompt: str, settings: dict[str, Any]) -> str:
    """What the model writes behind a prompt."""
    ids = model.generate([prompt], **settings)[0]
    new = ids[int(model.tokens([prompt]).ids.shape[1]) :]
    return str(model.tokenizer.decode(new, skip_special_tokens=True))
