"""`circuitkit attention agreement`: how far scores hang on the precision that a model computes in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from circuitkit.commands.attention.options import Texts, Where
from circuitkit.commands.loading import LoadAs, load

_Precision = Literal["float16", "bfloat16", "float64"]


def agreement(
    model: str,
    prompt: str | None = None,
    *,
    dtypes: Annotated[list[_Precision] | None, Parameter(negative="", consume_multiple=True)] = None,
    top: int = 10,
    texts: Texts | None = None,
    where: Where | None = None,
    out: Path = Path("attention-agreement"),
    load_as: LoadAs | None = None,
) -> None:
    """Score the same prompts with the model in each precision, and tell how far they agree with float32.

    Example:

    ```
    circuitkit attention agreement deductor-130k "Every wumpus is a dumpus. Fae is a wumpus." --top 5
    ```

    Parameters
    ----------
    model
        An embedded model (deductor-130k), a folder, or a hub id.
    prompt
        The text to read; or give --prompts.
    dtypes
        Which precisions are held against float32; float16 and bfloat16 if not given.
    top
        How many tokens count as the highest.
    out
        Folder for the tables (CSV), and provenance (JSON).
    """
    from circuitkit.attention import agreement as measure
    from circuitkit.writing import write_json, write_table

    said = (texts or Texts()).with_one(prompt)
    loaded = load(model, load_as)
    found = measure(loaded, said, dtypes=dtypes or ["float16", "bfloat16"], top=top, **(where or Where()).of(loaded))
    out.mkdir(parents=True, exist_ok=True)
    found.to_csv(out / "prompts.csv")
    write_table(out / "agreement.csv", found.table)
    write_json(out / "provenance.json", {name: scored.provenance for name, scored in found.scored.items()})
    print(
        "each precision against float32: rank correlation over tokens, largest difference of a score, highest tokens:"
    )
    print(found.table.to_string(index=False, float_format="{:.4f}".format))
    print(f"every prompt's figures are in {out}/")
