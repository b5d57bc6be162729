"""`circuitkit attention MODEL PROMPT`: capture patterns on a prompt, draw them, and score its tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from circuitkit.commands.loading import LoadAs, load


def capturing(
    model: str,
    prompt: str,
    *,
    layer: int = -1,
    head: int | None = None,
    all_layers: Annotated[bool, Parameter(negative="")] = False,
    first_column: Literal["zeroed", "kept"] = "zeroed",
    out: Path = Path("attention"),
    load_as: LoadAs | None = None,
) -> None:
    """Capture the attention of one layer on a prompt: patterns, pictures and token scores (Kang & Shin).

    Parameters
    ----------
    model
        An embedded model (deductor-130k), a folder, or a hub id.
    prompt
        The text to read.
    layer
        Which layer; negative counts from the last.
    head
        Which head; all of the layer's if not given.
    all_layers
        Keep the patterns of every layer, so that the report can go through them; figures and scores are those of
        --layer.
    first_column
        Whether the first token's attention counts: the published scores leave it out (zeroed).
    out
        Folder for the patterns (safetensors), a figure a head (PNG, SVG), the scores (CSV) and provenance (JSON);
        `circuitkit report` makes a page of it to point at.
    """
    import pandas as pd

    from circuitkit import plots
    from circuitkit.attention import capture, token_scores
    from circuitkit.records import whole_file
    from circuitkit.writing import write_json

    loaded = load(model, load_as)
    layer = layer % loaded.n_layers if -loaded.n_layers <= layer < 0 else layer
    captured = capture(loaded, prompt, layers=None if all_layers else [layer])
    heads = list(range(loaded.n_heads(layer))) if head is None else [head]
    out.mkdir(parents=True, exist_ok=True)
    captured.save(out)
    tables = []
    for each in heads:
        pattern = captured.pattern(layer, each)
        plots.save(captured.plot(layer, each), out / f"layer{layer}-head{each}.png")
        scores = token_scores(pattern, first_column=first_column).tolist()
        words = captured.words[0]
        tables.append(pd.DataFrame({"head": each, "position": range(len(words)), "token": words, "score": scores}))
    table = pd.concat(tables)
    with whole_file(out / "token_scores.csv") as beside:
        table.to_csv(beside, index=False)
    write_json(out / "provenance.json", {**captured.provenance, "layer": layer, "first_column": first_column})
    for each, rows in zip(heads, tables, strict=True):
        top = rows.nlargest(5, "score")
        scored = ", ".join(f"{token!r} {score:.2f}" for token, score in zip(top["token"], top["score"], strict=True))
        print(f"layer {layer} head {each}: {scored}")
    print(f"patterns, figures and scores are in {out}/; circuitkit report {out} shows them to be pointed at")
