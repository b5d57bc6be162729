"""Models of about one size, family by family: what the papers' tables say of them, and what models named say.

A family is an architecture and its training data at once, so families of one size can't tell the two apart; only pairs
that share one of them can: a class of models trained on other data, or other classes trained on about as much.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import statsmodels.api as sm
import statsmodels.formula.api as smf
from statsmodels.stats.proportion import confint_proportions_2indep

import circuitkit as ck
from circuitkit.tasks import prontoqa
from circuitkit.tasks.task import Task

PUBLISHED = Path(__file__).parents[1] / "published"
BAND = (1.1, 1.7)
"""Billions of parameters, rounded to one decimal as the models' names are."""
CHANCE = {"CommonsenseQA": 0.2}
PROOFS = "PrOntoQA-OOD, six rules"
_TITLES = {"csqa": "CommonsenseQA"}
HARDEST = "proof_by_contradiction"

# The class of the models on the hub: what there is of architecture in a family's name.
_CLASSES = {
    "OpenELM": "OpenELM",
    "TinyLlama": "Llama",
    "SmolLM2": "Llama",
    "GPT-2": "GPT-2",
    "Stable LM 2": "StableLM",
    "Qwen2.5": "Qwen2",
    "Gemma 2": "Gemma 2",
    "Gemma 3": "Gemma 3",
}
_FAMILIES = {
    "openelm": "OpenELM",
    "tinyllama": "TinyLlama",
    "smollm2": "SmolLM2",
    "gpt2": "GPT-2",
    "stablelm-2": "Stable LM 2",
    "qwen2.5": "Qwen2.5",
    "distill-qwen": "Qwen2.5",
    "gemma-2": "Gemma 2",
    "gemma-3": "Gemma 3",
}
_OPENELM = ("OpenELM", "OpenELMForCausalLM")
_TUNED = re.compile(r"instruct|chat|zephyr|distill|-it\b|-reason\b", re.IGNORECASE)


def family_of(name: str) -> str:
    """Tell a model's family from its name: a known one, or the letters that the name begins with.

    >>> family_of("apple/OpenELM-1_1B"), family_of("EleutherAI/pythia-1.4b")
    ('OpenELM', 'pythia')
    """
    last = name.rstrip("/").rsplit("/", 1)[-1]
    known = [family for part, family in _FAMILIES.items() if part in last.lower()]
    letters = re.match(r"[A-Za-z]+", last)
    return known[0] if known else letters[0] if letters else last


def in_band(parameters: float, band: tuple[float, float] = BAND) -> bool:
    """Whether a number of parameters, in billions with one decimal, lies in the band.

    >>> in_band(1_711_376_384), in_band(1_000_000_000)
    (True, False)
    """
    return band[0] <= round(parameters / 1e9, 1) <= band[1]


def published(folder: Path = PUBLISHED) -> pd.DataFrame:
    """Give the published models of the band: a row a model and task, with hits among n.

    Raises `FileNotFoundError` where the tables are not there.
    """
    tables = {
        name: json.loads((folder / f"{name}.json").read_text())["models"] for name in ("csqa", "prontoqa", "revision")
    }
    rows: list[dict[str, object]] = []
    for model in tables["csqa"]:
        rows.append(_row(model, "CommonsenseQA", model["correct"], model["total"]))
    questions = tables["csqa"][0]["total"]
    known = {name: {model["model"] for model in tables[name]} for name in ("csqa", "prontoqa")}
    for model in tables["revision"]:
        if model["model"] not in known["csqa"] and "csqa" in model:
            rows.append(_row(model, "CommonsenseQA", round(model["csqa"] / 100 * questions), questions))
    proofs = [*tables["prontoqa"], *(each for each in tables["revision"] if each["model"] not in known["prontoqa"])]
    # The tables give per cent of a hundred proofs a rule.
    rows += [_row(model, rule, model[rule], 100) for model in proofs for rule in prontoqa.RULES if rule in model]
    return with_intervals(pd.DataFrame([row for row in rows if in_band(float(str(row["parameters"])))]))


def _row(model: dict[str, object], task: str, hits: object, n: object) -> dict[str, object]:
    kept = {name: model[name] for name in ("model", "family", "parameters", "instruct")}
    return {**kept, "class": _CLASSES.get(str(model["family"]), "other"), "task": task, "hits": hits, "n": n}


def with_intervals(rows: pd.DataFrame) -> pd.DataFrame:
    """Add the six rules together where a model has them all, accuracies, and their 95 % Wilson intervals."""
    proofs = rows[rows["task"].isin(prontoqa.RULES)]
    names = ["model", "family", "parameters", "instruct", "class"]
    together = proofs.groupby(names, sort=False).agg(hits=("hits", "sum"), n=("n", "sum"), rules=("task", "nunique"))
    whole = together[together["rules"] == len(prontoqa.RULES)].reset_index().assign(task=PROOFS)
    found = pd.concat([rows, whole[[*names, "task", "hits", "n"]]])
    bounds = [ck.statistics.wilson(int(hits), int(n)) for hits, n in found[["hits", "n"]].to_numpy()]
    found = found.assign(
        accuracy=(found["hits"] / found["n"]).astype(float),
        low=[low for low, _ in bounds],
        high=[high for _, high in bounds],
    )
    return found.sort_values(["task", "family", "parameters", "instruct", "model"]).reset_index(drop=True)


def titles(names: Sequence[str]) -> dict[str, str]:
    """Give what tables call each task, and its name: "prontoqa" stands for its six rules."""
    found: dict[str, str] = {}
    for name in names:
        found |= {rule: rule for rule in prontoqa.RULES} if name == "prontoqa" else {_TITLES.get(name, name): name}
    return found


def task_of(name: str | Path, proofs: int) -> Task:
    """Give a rule's proofs of one hop behind eight exemplars, or the task that `circuitkit.tasks.load` knows."""
    return prontoqa.task(str(name), n=proofs) if str(name) in prontoqa.RULES else ck.tasks.load(name)


def asked(
    model: ck.Model,
    name: str,
    title: str,
    task: str | Path,
    proofs: int,
    decoding: str,
    limit: int | None,
    smallest: float,
    largest: float,
) -> dict[str, object]:
    """The cell of one model and task: who it is, and its hits.

    Raises `ValueError` where the model is not of the sizes that are compared.
    """
    count = sum(parameter.numel() for parameter in model.hf.parameters())
    if not in_band(count, (smallest, largest)):
        raise ValueError(
            f"{name} has {count:,} parameters, and models of {smallest} to {largest} billion are compared: leave it "
            "out, or give --smallest and --largest"
        )
    found = ck.evaluate(model, task_of(task, proofs), decoding=decoding, limit=limit, progress=False)
    return {
        "family": family_of(name),
        "parameters": count,
        "instruct": bool(_TUNED.search(name)),
        "class": type(model.hf).__name__,
        "hits": found.accuracy.hits,
        "n": found.accuracy.n,
        "unparseable": found.unparseable.value,
        "truncated": found.truncated.value,
        "shots": found.shots,
    }


def between_families(rows: pd.DataFrame) -> pd.DataFrame:
    """Give, for each task, the share of the variance of accuracies (as logits) that lies between families.

    `share` is omega squared of a one-way analysis of variance, `p` its F test's. A task is left out where there is one
    family alone, or where no family has models that differ.
    """
    found = []
    for task, own in rows.groupby("task", sort=False):
        logits = np.log((own["hits"] + 0.5) / (own["n"] - own["hits"] + 0.5)).astype(float)
        spread = own.assign(y=logits).groupby("family")["y"].agg(lambda values: values.max() - values.min())
        if len(spread) < 2 or spread.max() == 0:
            continue
        table = sm.stats.anova_lm(smf.ols("y ~ C(family)", own.assign(y=logits)).fit())
        between, within = table.loc["C(family)"], table.loc["Residual"]
        chance = within["sum_sq"] / within["df"]
        share = (between["sum_sq"] - between["df"] * chance) / (between["sum_sq"] + within["sum_sq"] + chance)
        told = {"families": len(spread), "models": len(own), "F": between["F"], "p": between["PR(>F)"]}
        found.append({"task": task, "share": share, **told})
    return pd.DataFrame(found)


def pairs(rows: pd.DataFrame) -> pd.DataFrame:
    """Compare untuned models of different families, two by two: `same_class` tells which share their class.

    `points` is the second's accuracy less the first's in percentage points, with Newcombe's 95 % interval for the
    questions asked; models whose class is not known are left out.
    """
    plain = rows[~rows["instruct"].astype(bool) & (rows["class"] != "other")]
    found = [
        _pair(task, first, second)
        for task, own in plain.groupby("task", sort=False)
        for first, second in itertools.combinations(own.to_dict("records"), 2)
        if first["family"] != second["family"]
    ]
    return pd.DataFrame(found)


def _pair(task: object, first: dict[Hashable, Any], second: dict[Hashable, Any]) -> dict[str, object]:
    low, high = confint_proportions_2indep(
        second["hits"], second["n"], first["hits"], first["n"], method="newcomb", compare="diff"
    )
    each = {
        f"{place}_{what}": model[what]
        for place, model in (("first", first), ("second", second))
        for what in ("model", "class", "parameters")
    }
    return {
        "task": task,
        **each,
        "same_class": first["class"] == second["class"],
        "points": 100 * (second["accuracy"] - first["accuracy"]),
        "low": 100 * low,
        "high": 100 * high,
    }


def sentences(rows: pd.DataFrame) -> list[str]:
    """Say what the families of one size show, of single rules only the hardest."""
    rows = rows[~rows["task"].isin(set(prontoqa.RULES) - {HARDEST})]
    said = [
        f"{_titled(row['task'])}: {100 * row['share']:.0f} % of the variance between {row['models']} models lies "
        f"between their {row['families']} families (p = {row['p']:.2g}); a family is architecture and data at once."
        for row in between_families(rows).to_dict("records")
    ]
    compared = pairs(rows)
    if compared.empty:
        return said
    same = compared[compared["same_class"]]
    said += [
        f"{_told(row)}, both of class {row['first_class']} and trained on other data."
        for row in same.to_dict("records")
    ]
    of_openelm = compared[compared[["first_class", "second_class"]].isin(_OPENELM).any(axis=1)]
    return [*said, *(f"{_told(row)}, of other classes." for row in of_openelm.to_dict("records"))]


def _titled(task: object) -> str:
    name = str(task).replace("_", " ")
    return name[0].upper() + name[1:]


def _told(row: dict[Hashable, Any]) -> str:
    first, second = (
        f"{row[f'{place}_model']} ({row[f'{place}_parameters'] / 1e9:.1f} billion)" for place in ("first", "second")
    )
    return (
        f"{_titled(row['task'])}: {second} against {first} {row['points']:+.1f} points ({row['low']:+.1f} to "
        f"{row['high']:+.1f})"
    )
