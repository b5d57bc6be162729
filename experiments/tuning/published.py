"""The published table of fine-tuning drawn again, strict shares beside it, and words counted in released answers."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd
from reports import listed, write_report
from scipy.stats import fisher_exact
from statsmodels.stats.proportion import proportion_confint

from circuitkit.records import provenance
from circuitkit.tasks import prontoqa
from tuning import figures
from tuning.cells import WORDS
from tuning.tables import with_verdicts
from tuning.texts import HARD, RULES, in_words

TABLE = Path(__file__).parents[1] / "published" / "fine_tuning.json"
OF_A_HUNDRED = 100


def published_table() -> pd.DataFrame:
    """A row a model, fine-tuning and rule: the published share, its interval, and the strict one where it is known."""
    told = json.loads(TABLE.read_text(encoding="utf-8"))
    named = ["model", "tuned"]
    long = pd.DataFrame(told["models"]).melt(
        [*named, "family", "parameters", "shots"], list(RULES), var_name="rule", value_name="headline"
    )
    strict = pd.DataFrame(told["strict"]).melt(named, list(RULES), var_name="rule", value_name="strict")
    table = long.merge(strict, on=[*named, "rule"], how="left")
    low, high = proportion_confint(table["headline"], OF_A_HUNDRED, method="wilson")
    return table.assign(low=100 * low, high=100 * high)


def degraded(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each fine-tuning and rule: the change from the base, with Fisher's exact test, Holm over all.

    Answers are released for a few of the models only, so that questions cannot be paired; the test knows counts alone
    and finds less than a paired one would.
    """
    base = table[table["tuned"] == "none"].set_index(["model", "rule"])["headline"]
    rows = table[table["tuned"] != "none"][["model", "tuned", "rule", "headline"]].copy()
    rows.insert(3, "base", [base[model, rule] for model, rule in zip(rows["model"], rows["rule"], strict=True)])
    rows["change"] = rows["headline"] - rows["base"]
    rows["p"] = [
        float(fisher_exact([[a, OF_A_HUNDRED - a], [b, OF_A_HUNDRED - b]]).pvalue)
        for a, b in zip(rows["base"], rows["headline"], strict=True)
    ]
    return with_verdicts(rows)


def released_words(folder: Path) -> pd.DataFrame:
    """A row a released run on the rules with hypotheses: shares judged here, and how many answers have each word."""
    prompts = json.loads((folder / "prompts.json").read_text(encoding="utf-8"))
    runs = [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]
    rows = []
    for run in runs:
        if run["rule"] not in HARD or (run["finetuned"] is None and run["shots"] != 3):
            continue
        verdicts = [
            prontoqa.judge(question, answer)
            for question, answer in zip(prompts[run["prompts"]]["prompts"], run["predictions"], strict=True)
        ]
        row = {"model": run["model"], "tuned": run["finetuned"] or "none", "rule": run["rule"], "shots": run["shots"]}
        row |= {name: sum(getattr(verdict, name) for verdict in verdicts) for name in ("correct", "strict", "sound")}
        rows.append(row | {word: sum(word in answer for answer in run["predictions"]) for word in WORDS})
    return pd.DataFrame(rows)


def sentences(table: pd.DataFrame, changes: pd.DataFrame, words: pd.DataFrame | None) -> list[str]:
    """What the published table says, and what it does not."""
    told = []
    for verdict in ("degraded", "improved"):
        found = changes[changes["verdict"] == verdict]
        named = "; ".join(
            f"{row['model']} ({row['tuned']}), {in_words(row['rule'])}: {row['base']} to {row['headline']} %"
            for row in found.sort_values("change").to_dict("records")
        )
        count = f"{len(found)} of {len(changes)} rules of fine-tuned models are {verdict}"
        told.append(f"{count} (Fisher's exact test of counts, Holm over all){': ' + named if named else ''}.")
    both = table.dropna(subset=["strict"])
    apart = both[both["headline"] - both["strict"] >= 10].sort_values("strict")
    listed = "; ".join(
        f"{row['model']} ({row['tuned']}), {in_words(row['rule'])} {row['headline']} to {row['strict']:.0f}"
        for row in apart.to_dict("records")
    )
    told.append(
        f"Where the strict share is known ({len(both)} cells), it is 10 points or more below the headline in "
        f"{len(apart)}: {listed}."
    )
    if words is None:
        told.append("Released answers are not read: CIRCUITKIT_DATA names no folder with prontoqa/prompts.json.")
        return told
    for row in words[words["tuned"] != "none"].to_dict("records"):
        needs = ("Assume", "Since") if row["rule"] == HARD[0] else ("Assume", "contradicts")
        said = ", ".join(f"“{word}” in {row[word]}" for word in needs)
        told.append(
            f"{row['model']} ({row['tuned']}), {in_words(row['rule'])}: of 100 answers {said}; headline "
            f"{row['correct']}, strict {row['strict']}, sound {row['sound']}."
        )
    return told


def published_study(out: Path) -> None:
    """Write the published table, its tests, figure and sentences into a folder."""
    table = published_table()
    changes = degraded(table)
    data = os.environ.get("CIRCUITKIT_DATA")
    words = released_words(Path(data) / "prontoqa") if data else None
    tables = {"published": table, "published_changes": changes}
    if words is not None:
        tables["released_words"] = words
    drawn, told = {"published": figures.published(table)}, sentences(table, changes, words)
    write_report(out, tables, drawn, listed(told), provenance(model_name="published tables"))
    print("\n".join(told), f"\nTables, figure and provenance are in {out}")
