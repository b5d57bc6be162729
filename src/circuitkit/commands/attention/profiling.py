"""`circuitkit attention profile`: which parts of speech heads attend to, and how spread out their attention is."""

from __future__ import annotations

from pathlib import Path

from circuitkit.commands.attention.options import Texts, Where
from circuitkit.commands.loading import LoadAs, load


def profile(
    model: str,
    prompt: str | None = None,
    *,
    tagger: str = "prontoqa",
    texts: Texts | None = None,
    where: Where | None = None,
    out: Path = Path("attention-profile"),
    load_as: LoadAs | None = None,
) -> None:
    """Measure each head's entropy and its attention by part of speech, beside what uniform attention would give.

    The first token, which takes most of many heads' attention whatever word it is, is told apart from all words unless
    --first-column kept is given.

    Example:

    ```
    circuitkit attention profile deductor-130k "Every wumpus is a dumpus. Fae is a wumpus."
    ```

    Parameters
    ----------
    model
        An embedded model (deductor-130k), a folder, or a hub id.
    prompt
        The text to read; or give --prompts.
    tagger
        Who gives words their parts of speech: prontoqa (that language's own lexicon), or the name of a spaCy model that
        is installed, such as en_core_web_sm.
    out
        Folder for the tables by head and by part of speech (CSV), a map of them (PNG, SVG), and provenance (JSON).
    """
    from circuitkit import plots
    from circuitkit.attention import Lexicon, Spacy
    from circuitkit.attention import profile as measure
    from circuitkit.writing import write_json, write_table

    said = (texts or Texts()).with_one(prompt)
    tags = Lexicon() if tagger == "prontoqa" else Spacy(tagger)
    loaded = load(model, load_as)
    found = measure(loaded, said, tags, **(where or Where()).of(loaded))
    out.mkdir(parents=True, exist_ok=True)
    write_table(out / "heads.csv", found.frame)
    write_table(out / "parts_of_speech.csv", found.by_tag)
    write_json(out / "provenance.json", found.provenance)
    plots.save(found.plot(), out / "parts_of_speech.png")
    print("entropy in nats, and the share of attention on function words beside that of uniform attention:")
    print(found.frame.to_string(index=False, float_format="{:.3f}".format))
    print(f"shares and scores by part of speech are in {out}/")
