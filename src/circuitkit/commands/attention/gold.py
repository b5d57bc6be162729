"""`circuitkit attention gold`: how far attention points at the next gold token of proofs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from circuitkit.commands.attention.options import Where
from circuitkit.commands.loading import LoadAs, load
from circuitkit.commands.options import Words
from circuitkit.commands.prompts import PROMPTS

if TYPE_CHECKING:
    from circuitkit.tasks.task import Task


def gold(
    model: str,
    *,
    rule: Annotated[Words, Parameter(group=PROMPTS)] = None,
    hops: Annotated[int, Parameter(group=PROMPTS)] = 1,
    shots: Annotated[int, Parameter(group=PROMPTS)] = 3,
    n: Annotated[int, Parameter(group=PROMPTS)] = 100,
    seed: Annotated[int, Parameter(group=PROMPTS)] = 0,
    prompt_file: Annotated[Path | None, Parameter(group=PROMPTS)] = None,
    match: Literal["id", "text"] = "id",
    where: Where | None = None,
    out: Path = Path("gold-scores"),
    load_as: LoadAs | None = None,
) -> None:
    """Score how far attention points at the next token of gold proofs: Table 3 of Hsiao & Dutta, rule by rule.

    Before each token of a gold proof, the prompt and the proof so far are scored; the token's value is the best score
    of its earlier occurrences, 0 if there is none. The table has the mean over heads, tokens and proofs.

    Example:

    ```
    circuitkit attention gold deductor-130k --rule implication_elimination --n 20
    ```

    Parameters
    ----------
    model
        An embedded model (deductor-130k), a folder, or a hub id.
    rule
        Which deduction rules, such as implication_elimination or ModusPonens; all six if not given.
    hops
        How many steps of the rule a proof takes; rules that have one alone keep to it.
    shots
        How many solved examples stand before each question.
    n
        How many proofs a rule.
    seed
        Of the draw.
    prompt_file
        Read prompts and proofs from a file of published prompts instead, by rule and shots.
    match
        Whether tokens are the same by their id, or by the text that the tokenizer writes for them, as in the paper.
    out
        Folder for the table and every proof's score (CSV), scores by rule (safetensors), maps over heads (PNG, SVG),
        and provenance (JSON).
    """
    import pandas as pd

    from circuitkit import plots
    from circuitkit.attention import gold_scores
    from circuitkit.writing import write_json, write_table

    loaded = load(model, load_as)
    looked = (where or Where()).of(loaded)
    out.mkdir(parents=True, exist_ok=True)
    tables, proofs, told = [], [], {}
    for name, task in _tasks(rule, hops, shots, n, seed, prompt_file).items():
        scored = gold_scores(
            loaded,
            [task.prompt(item) for item in task.items],
            [item.gold for item in task.items],
            match=match,
            **looked,
        )
        scored.save(out / f"gold-{name}.safetensors")
        plots.save(scored.plot(), out / f"gold-{name}.png")
        tables.append(scored.table.assign(rule=name))
        proofs.append(scored.frame.assign(rule=name, key=[task.items[at].key for at in scored.frame["proof"]]))
        told[name] = scored.provenance
    table = pd.concat(tables, ignore_index=True)
    write_table(out / "gold.csv", table)
    write_table(out / "proofs.csv", pd.concat(proofs, ignore_index=True))
    write_json(out / "provenance.json", told)
    means = table[table["head"] == "mean"].drop(columns="head").set_index("rule")
    print("best attention score of the next gold token, mean over heads, with its 95 % interval over proofs:")
    print(means.to_string(float_format="{:.3f}".format))
    print(f"every head's and every proof's scores are in {out}/")


def _tasks(
    rules: list[str] | None, hops: int, shots: int, n: int, seed: int, prompt_file: Path | None
) -> dict[str, Task]:
    from circuitkit.tasks import prontoqa

    named = list(prontoqa.RULES) if rules is None else rules
    if prompt_file is not None:
        return {name: prontoqa.prompt_file(prompt_file, f"{name}/{shots}shot").first(n) for name in named}
    # The six rules in one table: those that have one hop alone are asked in one.
    return {
        name: prontoqa.task(
            name, 1 if rules is None and name in prontoqa.ONE_HOP_RULES else hops, shots=shots, n=n, seed=seed
        )
        for name in named
    }
