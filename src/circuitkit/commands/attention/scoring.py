"""`circuitkit attention scores`: which tokens receive attention, in any layers and heads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from circuitkit.commands.attention.options import Texts, Where
from circuitkit.commands.loading import LoadAs, load

if TYPE_CHECKING:
    from circuitkit.attention import TokenScores

_MOST_DRAWN, _LONGEST_DRAWN = 8, 1500


def scores(
    model: str,
    prompt: str | None = None,
    *,
    edges: int = 50,
    texts: Texts | None = None,
    where: Where | None = None,
    out: Path = Path("attention-scores"),
    load_as: LoadAs | None = None,
) -> None:
    """Score tokens by the attention that they receive (Kang & Shin), keeping no pattern, so that prompts may be long.

    A score runs from 0 to 1 within a prompt, a layer and a head. It tells where attention goes, not what it does: hold
    it against patching or ablation, and do not compare models of different families by it.

    Example:

    ```
    circuitkit attention scores deductor-130k "Every wumpus is a dumpus. Fae is a wumpus." --all-layers
    ```

    Parameters
    ----------
    model
        An embedded model (deductor-130k), a folder, or a hub id.
    prompt
        The text to read; or give --prompts.
    edges
        How many of the strongest edges from token to token are drawn, of the first head looked at.
    out
        Folder for the scores (safetensors and CSV), coloured tokens and strongest edges (PNG, SVG), provenance (JSON).
    """
    from circuitkit import plots
    from circuitkit.attention import scores as score
    from circuitkit.attention import top_edges
    from circuitkit.writing import write_json, write_table

    said = (texts or Texts()).with_one(prompt)
    loaded = load(model, load_as)
    looked = (where or Where()).of(loaded)
    scored = score(loaded, said, **looked)
    out.mkdir(parents=True, exist_ok=True)
    scored.save(out / "token_scores.safetensors")
    write_table(out / "token_scores.csv", scored.frame)
    write_json(out / "provenance.json", scored.provenance)
    drawn = [row for row, words in enumerate(scored.words) if len(words) <= _LONGEST_DRAWN][:_MOST_DRAWN]
    layer, head = scored.layers[-1], scored.heads[0]
    for row in drawn:
        for each in scored.layers:
            plots.save(scored.plot(row, layer=each), out / f"tokens-prompt{row}-layer{each}.png")
        strongest = top_edges(loaded, [said[row]], layer, head, n=edges, first_column=looked["first_column"])
        plots.save(strongest.plot(), out / f"edges-prompt{row}-layer{layer}-head{head}.png")
    _tell(scored)
    if left := len(scored.words) - len(drawn):
        print(
            f"{left} of {len(scored.words)} prompts are not drawn: the first {_MOST_DRAWN} under {_LONGEST_DRAWN} are"
        )
    print(f"scores and figures are in {out}/")


def _tell(scored: TokenScores) -> None:
    for layer in scored.layers:
        means = scored.of(0, layer)
        top = means.argsort(descending=True)[:5].tolist()
        told = ", ".join(f"{scored.words[0][at]!r} {float(means[at]):.2f}" for at in top)
        print(f"prompt 0, layer {layer}, mean over heads: {told}")
