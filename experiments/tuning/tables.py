"""The tables of `finetuning.py`: what cells gave question by question, as shares, differences and their p-values."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sweeps import bits

from circuitkit import statistics
from tuning.cells import WORDS
from tuning.texts import RULES

JUDGES = ("headline", "strict", "sound")
SUBJECT = ["model", "training", "seed"]
HOW = ["of", "shots", "separator", "words", "decoding"]
WHICH = ["rule", "hops"]


def answers_table(cells: pd.DataFrame) -> pd.DataFrame:
    """A row for each subject, way of asking, rule and number of hops, with a text of bits for each thing judged."""
    rows: list[dict[str, Any]] = []
    for cell in cells.to_dict("records"):
        kept = {name: value for name, value in cell.items() if name not in ("answers", "shown")}
        rows += [{**kept, **answer} for answer in json.loads(cell["answers"])]
    return pd.DataFrame(rows)


def accuracy_table(answers: pd.DataFrame) -> pd.DataFrame:
    """A row a rule of each subject and way of asking: shares with their intervals (Wilson), and words said."""
    rows = []
    for row in answers.to_dict("records"):
        right = bits(row["headline"])
        low, high = statistics.wilson(int(right.sum()), len(right))
        rows.append(
            {
                **{name: row[name] for name in (*SUBJECT, "parameters", *HOW, *WHICH)},
                "n": len(right),
                "headline": right.mean(),
                "low": low,
                "high": high,
                **{name: bits(row[name]).mean() for name in (*JUDGES[1:], "unparseable", "truncated")},
                **{f"said {word}": int(bits(row[word]).sum()) for word in WORDS},
            }
        )
    return pd.DataFrame(rows)


def degraded_table(answers: pd.DataFrame, judge: str = "headline", level: float = 0.05) -> pd.DataFrame:
    """A row for each tuned subject, rule and number of hops: McNemar's test against its base on the same questions.

    Two bases are held against: without training, behind exemplars and without. P-values are corrected over the whole
    table, after Holm; `verdict` is "degraded" or "improved" where the corrected one is below the level.
    """
    clean = answers[(answers["of"] == "test") & (answers["decoding"] == "clean") & (answers["words"] == "as drawn")]
    clean = clean[clean["separator"] == "published"]
    base = clean[clean["training"] == "none"].set_index(["model", "seed", "shots", "rule", "hops"])
    rows = []
    for row in clean[(clean["training"] != "none") & (clean["shots"] == 0)].to_dict("records"):
        for shots in sorted({key[2] for key in base.index}, reverse=True):
            at = (row["model"], row["seed"], shots, row["rule"], row["hops"])
            if at not in base.index:
                continue
            before, after = bits(base.loc[at, judge]), bits(row[judge])
            found = statistics.mcnemar(before > 0, after > 0)
            change = statistics.paired_bootstrap(before, after, seed=0)
            rows.append(
                {
                    **{name: row[name] for name in (*SUBJECT, *WHICH)},
                    "base shots": shots,
                    "n": len(after),
                    "base": before.mean(),
                    "tuned": after.mean(),
                    "change": change.value,
                    "change_low": change.low,
                    "change_high": change.high,
                    "only_base": found.only_first,
                    "only_tuned": found.only_second,
                    "p": found.p,
                }
            )
    return with_verdicts(pd.DataFrame(rows), level)


def with_verdicts(changes: pd.DataFrame, level: float = 0.05) -> pd.DataFrame:
    """Changes with their p-values corrected over the whole table, after Holm, and what they then say of each."""
    corrected = statistics.holm(changes["p"])
    sure, worse = corrected < level, changes["change"] < 0
    verdict = np.select([sure & worse, sure], ["degraded", "improved"], "not told apart")
    return changes.assign(p_corrected=corrected, verdict=verdict)


def confound_table(answers: pd.DataFrame, seed: int) -> pd.DataFrame:
    """A row for each subject of a seed, decoding, separator and rule: all judges side by side, and words said.

    `needs` says which words the rule's proofs need; `never said` which of them no response had.
    """
    kept = answers[(answers["of"] == "test") & (answers["words"] == "as drawn") & (answers["hops"] == 1)]
    kept = kept[kept["seed"] == seed]
    table = accuracy_table(kept)
    needs = {"disjunction_elimination": ("Assume", "Since"), "proof_by_contradiction": ("Assume", "contradicts")}
    said = [
        ", ".join(word for word in needs.get(row["rule"], ()) if not row[f"said {word}"])
        for row in table.to_dict("records")
    ]
    table.insert(len(table.columns), "needs", [", ".join(needs.get(rule, ())) for rule in table["rule"]])
    return table.assign(**{"never said": said}).drop(columns=["of", "words", "hops"])


def transfer_table(answers: pd.DataFrame, *, judges: Sequence[str] = JUDGES, seed: int = 0) -> pd.DataFrame:
    """A row for each model, rule and judge: accuracy untrained, trained without the rule, and trained on all rules.

    Questions of all seeds stand together in shares (Wilson) and paired differences (bootstrap, McNemar, Holm over the
    table); `seeds` has each seed's share without the rule, since intervals know the chance of questions alone.
    """
    asked = answers[
        (answers["of"] == "test")
        & (answers["shots"] == 0)
        & (answers["decoding"] == "clean")
        & (answers["separator"] == "trained")
        & (answers["words"] == "as drawn")
    ]
    rows = []
    for (model, rule, hops), part in asked.groupby(["model", "rule", "hops"], sort=False):
        without = part[part["training"] == f"proofs without {rule}"].sort_values("seed")
        if without.empty:
            continue
        seeds = without["seed"].tolist()
        for judge in judges:
            left = joined(without, judge)
            untrained = joined(part[(part["training"] == "none") & part["seed"].isin(seeds)].sort_values("seed"), judge)
            full = joined(
                part[(part["training"] == "proofs of all") & part["seed"].isin(seeds)].sort_values("seed"), judge
            )
            row: dict[str, Any] = {"model": model, "rule": rule, "hops": hops, "judge": judge, "n": len(left)}
            for name, values in (("untrained", untrained), ("without", left), ("all", full)):
                low, high = statistics.wilson(int(values.sum()), len(values))
                row |= {name: values.mean(), f"{name}_low": low, f"{name}_high": high}
            for name, first, second in (("gain", untrained, left), ("gap", left, full)):
                found = statistics.paired_bootstrap(first, second, seed=seed)
                row |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
                row |= {f"{name}_p": statistics.mcnemar(first > 0, second > 0).p}
            row["seeds"] = ", ".join(f"{100 * bits(value).mean():.0f}" for value in without[judge])
            rows.append(row)
    table = pd.DataFrame(rows)
    for name in ("gain", "gap") if len(table) else ():
        table[f"{name}_p_corrected"] = statistics.holm(table[f"{name}_p"])
    return table


def memorising_table(answers: pd.DataFrame, *, judge: str = "headline", seed: int = 0) -> pd.DataFrame:
    """A row for each subject and rule: training questions against new ones, withheld words against known, more hops.

    Training and new questions are other questions, so that their difference is one of two groups; words are paired.
    """
    clean = answers[(answers["decoding"] == "clean") & (answers["separator"] == "trained") & (answers["shots"] == 0)]
    rows = []
    for (model, training), part in clean[clean["training"] != "none"].groupby(["model", "training"], sort=False):
        for rule in RULES:
            own = part[part["rule"] == rule]
            new = own[(own["of"] == "test") & (own["words"] == "as drawn")]
            known = own[(own["of"] == "training") & (own["words"] == "as drawn")]
            if len(known) and len(new):
                first, second = joined(known, judge), joined(new[new["hops"] == 1], judge)
                both, is_new = np.concatenate([second, first]), np.arange(len(second) + len(first)) < len(second)
                groups = statistics.difference_of_groups(both[None], is_new, seed=seed, draws=2000)
                found = statistics.Difference(float(groups.difference[0]), float(groups.low[0]), float(groups.high[0]))
                rows.append(
                    _compared(model, training, rule, "training questions", "new questions", first, second, found)
                )
            tested = own[(own["of"] == "test") & (own["hops"] == 1)]
            for words, than in (("withheld", "known"), ("withheld names", "known"), ("new names", "as drawn")):
                usual, other = tested[tested["words"] == than], tested[tested["words"] == words]
                if len(usual) and len(other):
                    first, second = (joined(each.sort_values("seed"), judge) for each in (usual, other))
                    told = words if words.endswith("names") else "withheld names and concepts"
                    difference = statistics.paired_bootstrap(first, second, seed=seed)
                    rows.append(_compared(model, training, rule, f"words {than}", told, first, second, difference))
    return pd.DataFrame(rows)


def _compared(
    model: str,
    training: str,
    rule: str,
    usual: str,
    other: str,
    first: np.ndarray,
    second: np.ndarray,
    found: statistics.Difference,
) -> dict[str, Any]:
    return {
        "model": model,
        "training": training,
        "rule": rule,
        "usual": usual,
        "other": other,
        "n": len(second),
        "on usual": first.mean(),
        "on other": second.mean(),
        "difference": second.mean() - first.mean(),
        "low": found.low,
        "high": found.high,
    }


def joined(rows: pd.DataFrame, judge: str) -> np.ndarray:
    """The verdicts of several rows, one after another."""
    return np.concatenate([bits(each) for each in rows[judge]])
