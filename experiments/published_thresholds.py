"""The paper's own tables through the search for a threshold, its figures, and its released answers judged again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import threshold_answer
from tqdm import tqdm

import circuitkit as ck
from circuitkit import plots
from circuitkit.records import provenance
from circuitkit.tasks import prontoqa
from circuitkit.writing import write_json, write_table, write_text

TABLES = Path(__file__).parent / "published"
CSQA_CHANCE = 0.2


def published(name: str) -> pd.DataFrame:
    """A published table, a row a model."""
    return pd.DataFrame(json.loads((TABLES / f"{name}.json").read_text(encoding="utf-8"))["models"])


def csqa() -> pd.DataFrame:
    """CommonsenseQA, in counts, as the search takes it."""
    return published("csqa")


def prontoqa_rule(rule: str) -> pd.DataFrame:
    """One rule of PrOntoQA-OOD, in counts of 100 proofs, as the search takes it."""
    table = published("prontoqa")
    return table[["model", "family", "parameters", "instruct"]].assign(correct=table[rule], total=100)


def gsm8k() -> pd.DataFrame:
    """GSM8K of the revision, in counts of 1,319 problems."""
    table = published("revision")
    correct = (table["gsm8k"] * 13.19).round()
    return table[["model", "family", "parameters", "instruct"]].assign(correct=correct, total=1319)


def studies() -> dict[str, tuple[pd.DataFrame, float | None]]:
    """Every published table that is searched, with its chance."""
    told: dict[str, tuple[pd.DataFrame, float | None]] = {"CommonsenseQA": (csqa(), CSQA_CHANCE)}
    for name, instruct in (("base", False), ("instruct", True)):
        told[f"CommonsenseQA, {name} models"] = csqa().query(f"instruct == {instruct}"), CSQA_CHANCE
    told["GSM8K"] = gsm8k(), None
    for rule in prontoqa.RULES:
        told[f"PrOntoQA-OOD, {rule.replace('_', ' ')}"] = prontoqa_rule(rule), None
    return told


def published_study(out: Path, *, draws: int, seed: int) -> None:
    """Search every published table, draw the paper's figures, and judge the released answers again."""
    rows: list[dict[str, Any]] = []
    said: list[str] = []
    for name, (table, chance) in tqdm(studies().items(), desc="published tables"):
        task = name if "contradiction" not in name else "PrOntoQA-OOD, proof_by_contradiction"
        found = ck.thresholds.find(table, task=task, chance=chance, draws=draws, seed=seed, progress=False)
        stem = name.replace(",", "").replace(" ", "_")
        found.save(out / "fits" / f"{stem}.json")
        plots.save(found.plot(), out / "figures" / f"fit_{stem}.png")
        low, high = found.interval
        row = {"task": name, "verdict": found.verdict, "curve": found.best["curve"], "p": found.p}
        row["p_trend"] = found.p_trend
        rows.append(row | {"breakpoint": found.breakpoint, "low": low, "high": high, "gain": found.gain[0]})
        said += [f"## {name}", *(f"- {sentence}" for sentence in found.sentences())]
    fits = threshold_answer.corrected(pd.DataFrame(rows))
    said.insert(0, f"- {threshold_answer.answer(fits, draws=draws)}")
    write_table(out / "thresholds.csv", fits)
    said += attention_within_families(out)
    hops_figure(out)
    said += judged_again(out)
    write_text(out / "sentences.md", "\n".join(said) + "\n")
    write_json(out / "provenance.json", provenance(model_name="published tables", seed=seed, draws=draws))
    print("\n".join(said))


def attention_table() -> pd.DataFrame:
    """Each published model's attention score beside its accuracy, the means over the six rules."""
    scores, accuracy = published("attention_scores"), pd.concat([published("prontoqa"), published("revision")])
    known = accuracy.dropna(subset=[prontoqa.RULES[0]]).set_index("model")
    both = scores[scores["model"].isin(known.index)].set_index("model")
    return (
        both[["family", "parameters", "instruct"]]
        .assign(
            score=both[list(prontoqa.RULES)].mean(axis=1),
            accuracy=known.loc[both.index, list(prontoqa.RULES)].astype(float).mean(axis=1),
        )
        .reset_index()
    )


def attention_within_families(out: Path) -> list[str]:
    """Whether the attention score goes with accuracy over all models, and within each family (Spearman)."""
    table = attention_table()
    drawn = plots.models_against(
        table,
        "score",
        "accuracy",
        title="Published attention scores against accuracy (means over six rules)",
        x_name="attention score of the next gold token (0 to 1)",
        y_name="accuracy, % of proofs",
    )
    plots.save(drawn, out / "figures" / "attention_against_accuracy.png")
    write_table(out / "attention.csv", table)
    found = ck.attention.against_accuracy(table)
    write_table(out / "attention_against_accuracy.csv", found)
    said = ["## Attention scores against accuracy"]
    for row in found.to_dict("records"):
        said.append(
            f"- {row['models_of']} ({row['models']} models): Spearman {row['correlation']:.2f} "
            f"(p = {row['p']:.2f}, permuting models)."
        )
    return said


def hops_figure(out: Path) -> None:
    """Implication elimination by number of hops and size, from the revision's table."""
    table = published("implication_steps")
    long = table.melt(["model", "family", "parameters", "instruct"], var_name="hops", value_name="correct")
    long["hops"] = long["hops"].str.split("_").str[0].astype(int)
    for name, part in long.groupby("hops"):
        drawn = plots.models_against(
            part,
            "parameters",
            "correct",
            title=f"Implication elimination, {name} hop{'s' * (int(str(name)) > 1)}: accuracy against size (published)",
            x_name="",
            y_name="accuracy, % of proofs",
        )
        plots.save(drawn, out / "figures" / f"implication_{name}_hops.png")


def agreement(table: pd.DataFrame) -> str:
    """In how many runs the shares judged here are the released ones, by the headline rule and strictly."""
    told = []
    for name, ours, theirs in (("headline", "correct", "released"), ("strict", "strict", "released_strict")):
        known = table.dropna(subset=[theirs])
        # Shares are of a hundred answers: a hundredth apart is one answer, whatever the rounding.
        near = int(((known[theirs] - known[ours]).abs() < 0.0101).sum())
        told.append(f"the {name} share is within 0.01 of the released one in {near} of {len(known)}")
    return f"{len(table)} runs judged: {', '.join(told)}."


def judged_again(out: Path) -> list[str]:
    """Judge the released answers, and hold the shares against the released ones."""
    data = os.environ.get("CIRCUITKIT_DATA")
    if not data:
        return ["## Released answers", "- Not judged: CIRCUITKIT_DATA names no folder with prontoqa/prompts.json."]
    folder = Path(data) / "prontoqa"
    prompts = json.loads((folder / "prompts.json").read_text(encoding="utf-8"))
    runs = [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]
    rows = []
    for run in tqdm(runs, desc="judging released answers"):
        questions = prompts[run["prompts"]]["prompts"]
        verdicts = [prontoqa.judge(*pair) for pair in zip(questions, run["predictions"], strict=True)]
        row = {name: run[name] for name in ("model", "finetuned", "rule", "shots")}
        row |= {"released": run["judged_correct"], "released_strict": run["judged_strictly_correct"]}
        for name in ("correct", "strict", "sound"):
            row[name] = sum(getattr(verdict, name) for verdict in verdicts) / len(verdicts)
        rows.append(row)
    table = pd.DataFrame(rows)
    write_table(out / "judged_again.csv", table)
    lenient = table.groupby("rule")[["correct", "strict", "sound"]].mean()
    said = ["## Released answers", f"- {agreement(table)}"]
    for rule, row in lenient.iterrows():
        said.append(
            f"- {rule}: headline {100 * row['correct']:.0f} %, strict {100 * row['strict']:.0f} %, sound "
            f"{100 * row['sound']:.0f} % of proofs, over all runs."
        )
    return said
