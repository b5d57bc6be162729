"""The paper's three tables with the intervals that they lack, what their differences can bear, and their faults."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd
from overlaps import held_against
from reports import listed, write_report

from circuitkit.records import provenance
from circuitkit.statistics import holm, wilson
from stethoscope import published_figures

TABLE = Path(__file__).parents[1] / "published" / "sfn.json"
BENCHMARKS = {"aime24": "AIME 2024", "math500": "MATH-500", "gpqa": "GPQA Diamond"}
MERGED = {
    "none (A)": "none (A)",
    "o_proj": "o_proj",
    "q_proj,k_proj,v_proj": "q, k, v",
    "mlp": "mlp",
    "all (B)": "all (B)",
}
TRAINED = {
    "none": "none (A)",
    "embed,lm_head,norm": "F1: always",
    "embed,lm_head,norm,o_proj": "F2: + o",
    "embed,lm_head,norm,q,k,v,o": "F3: + q, k, v, o",
    "all": "F4: all",
}
"""What tables and figures here call the paper's rows; "always" is embedding, unembedding and norms."""

FAULTS = (
    "Table 1's answers were right where the gold number is part of any boxed text: a gold answer of 7 is found in 73 "
    "and in 2017.",
    "Each row of Table 1 is a single run of 30 problems in fp16. Its token counts include the prompt, and the mean of "
    "15,532 for mlp says that hardly any of those answers ended before 16,384 tokens, while the released merging code "
    "allows 8,192.",
    "Problems went to the models raw, without the chat template that B was trained with; asked as a chat, the merged "
    "models were said to write nonsense.",
    "No merge is held against another of as many parameters: q, k, v and mlp have other numbers of them than o_proj, "
    "and no other single module was grafted.",
    "Where grafting o_proj does not help, from 7B on, mismatched norms are blamed; the released code for merging norms "
    'looks for a key "norm" that no per-layer norm has, and so merges none of them.',
    "Norms of differences are not divided by the size or the norm of the module; the heat map adds the norm of a "
    "bias's difference to that of its weight's; the histogram divides by |w| + 1e-8, clips to ±1 and then leaves out "
    "what is beyond ±0.99. Low precision and steps of a fixed size give two humps without any meaning, and there is no "
    "null to hold them against.",
    "Table 2 has one training a row, no seed and no module of o_proj's size beside it; the released training code "
    "freezes mlp alone, which is F3.",
    "Table 3 is one conversation a cell, its level told by eye; the text that was asked needs no reasoning, so that "
    "level III and level IV cannot be told apart by it.",
    "Table 3's row of zeros holds three models in seven cells: without q or k attention is even, without v or o it is "
    "off, without gate, up or down the MLP is off. Its levels agree with that, so that what is said of o_proj is said "
    "of v_proj too.",
)
"""What is wrong with how the tables were made, apart from how few answers they count."""


def read() -> dict[str, Any]:
    """The three tables as they are printed."""
    told: dict[str, Any] = json.loads(TABLE.read_text(encoding="utf-8"))
    return told


def merge_table() -> pd.DataFrame:
    """Table 1: a row a merge, with right answers of 30 and Wilson's interval; shares."""
    told = read()
    rows = [
        {
            "benchmark": BENCHMARKS["aime24"],
            "merged": MERGED[row["merged"]],
            "tokens": row["tokens"],
            "level": row.get("level"),
            **_counted(row["accuracy"], told["items"]["aime24"]),
        }
        for row in told["merge"]["rows"]
    ]
    return pd.DataFrame(rows)


def freeze_table() -> pd.DataFrame:
    """Table 2: a row a model, training and benchmark, with right answers and Wilson's interval; shares."""
    told = read()
    rows = [
        {
            "model": row["model"],
            "trained": TRAINED[row["trained"]],
            "parameters_billion": row["parameters_billion"],
            "steps_per_second": row["steps_per_second"],
            "benchmark": name,
            **_counted(row[key], told["items"][key]),
        }
        for row in told["freeze"]
        for key, name in BENCHMARKS.items()
    ]
    return pd.DataFrame(rows)


def destruction_table() -> pd.DataFrame:
    """Table 3: a row a module and way, with its level."""
    levels = read()["destruction"]["levels"]
    rows = [
        {"how": how, "module": module, "level": level}
        for how in ("zero", "reinit")
        for module, level in levels[how].items()
    ]
    return pd.DataFrame([*rows, {"how": "remove", "module": "whole layers", "level": levels["remove_layer"]}])


def contrasts(table: pd.DataFrame, arm: str, keys: Sequence[str]) -> pd.DataFrame:
    """A row for every two arms of each group: their difference in right answers, and what it can bear.

    Both arms were asked the same questions, but which ones each had right is not published. `p_least` and `p_most` are
    McNemar's exact p where their right answers overlap as much, or as little, as the counts allow; the true one lies
    between them. `p_unpaired` is Fisher's. The interval is Newcombe's, unpaired too. Corrected ones are after Holm,
    over the whole table.
    """
    rows = []
    for names, part in table.groupby(list(keys), sort=False):
        for first, second in combinations(part.to_dict("records"), 2):
            rows.append(
                {
                    **dict(zip(keys, names, strict=True)),
                    "first": first[arm],
                    "second": second[arm],
                    **held_against(first["right"], second["right"], first["n"]),
                }
            )
    found = pd.DataFrame(rows)
    for name in ("p_least", "p_most", "p_unpaired"):
        found[f"{name}_corrected"] = holm(found[name])
    return found


def _counted(accuracy: float, n: int) -> dict[str, float]:
    right = round(accuracy * n)
    low, high = wilson(right, n)
    return {"n": n, "right": right, "accuracy": right / n, "low": low, "high": high}


def said_of_merges(table: pd.DataFrame, against: pd.DataFrame) -> list[str]:
    """What Table 1 says, and what it cannot."""
    at = table.set_index("merged")
    shown = "; ".join(
        f"{name} {row['right']} ({100 * row['low']:.0f} to {100 * row['high']:.0f} %)" for name, row in at.iterrows()
    )
    pairs = against.set_index(["first", "second"])
    gain = pairs.loc["none (A)", "o_proj"]
    told = [
        f"Table 1, right answers of 30 with 95 % intervals (Wilson): {shown}.",
        f"Grafting o_proj gains {gain['right_second'] - gain['right_first']} problems ({_points(gain)}). However the "
        f"right answers overlap, p is {gain['p_least']:.3g} to {gain['p_most']:.3g} (McNemar; unpaired "
        f"{gain['p_unpaired']:.2g}): "
        + ("the table can bear this gain." if gain["p_most"] < 0.05 else "the table cannot bear it at 0.05."),
    ]
    sure = against[against["p_most"] < 0.05]
    corrected = against[against["p_most_corrected"] < 0.05]
    named = "; ".join(
        f"{row['first']} and {row['second']} (p = {row['p_most']:.2g})" for row in sure.to_dict("records")
    )
    told.append(
        f"Of its {len(against)} pairs of rows, {len(sure)} differ with p below 0.05 whatever the overlap"
        f"{': ' + named if named else ''}; corrected over the pairs (Holm), {len(corrected)} do."
    )
    return told


def said_of_freezing(table: pd.DataFrame, against: pd.DataFrame) -> list[str]:
    """What Table 2 says of o_proj."""
    o, told = TRAINED["embed,lm_head,norm,o_proj"], []
    for (model, benchmark), part in against.groupby(["model", "benchmark"], sort=False):
        own = part[(part["first"] == o) | (part["second"] == o)]
        said = []
        for row in own.to_dict("records"):
            sign = 1 if row["second"] == o else -1
            other = row["first"] if sign == 1 else row["second"]
            ends = sorted((sign * row["low"], sign * row["high"]))
            p = f"p {row['p_least']:.2g} to {row['p_most']:.2g}"
            verdict = _borne(row)
            said.append(
                f"{100 * sign * row['difference'] + 0.0:+.1f} points to {other} ({100 * ends[0]:.1f} to "
                f"{100 * ends[1]:.1f}; {p}: {verdict})"
            )
        told.append(f"Table 2, {model}, {benchmark}, {o} against the others: {'; '.join(said)}.")
    harmed = against[(against["first"] == TRAINED["none"]) & (against["second"] == TRAINED["embed,lm_head,norm"])]
    worse = harmed[harmed["difference"] < 0]
    told.append(
        f"Training embedding, unembedding and norms alone (F1) lowers {len(worse)} of {len(harmed)} scores, so that "
        "part of what F2 gains over F1 is the damage of F1; the gain that counts is that over A."
    )
    return told


def _borne(row: dict[str, float]) -> str:
    if row["p_most_corrected"] < 0.05:
        return "borne, corrected too"
    if row["p_most"] < 0.05:
        return "borne, but not corrected"
    return "may be borne" if row["p_least"] < 0.05 else "not borne"


def said_of_destruction(table: pd.DataFrame) -> list[str]:
    """What Table 3 says, and how much a single conversation can."""
    low, _ = wilson(1, 1)
    kept = table[table["level"].isin(["III", "IV"])]
    shown = ", ".join(f"{row['module']} ({row['how']})" for row in kept.to_dict("records"))
    return [
        f"Table 3: level III is left by {shown}, and no cell has IV. One conversation shows its level in 100 % of one "
        f"answer, of which Wilson's interval is {100 * low:.0f} to 100 %: two cells that differ may well be the same."
    ]


def _points(row: pd.Series) -> str:
    return f"{100 * row['difference']:+.1f} points, {100 * row['low']:.1f} to {100 * row['high']:.1f}"


def published_study(out: Path) -> None:
    """Write the published tables with intervals and contrasts, their figures, and what they can and cannot say."""
    merges, trainings, destroyed = merge_table(), freeze_table(), destruction_table()
    of_merges = contrasts(merges, "merged", ["benchmark"])
    of_trainings = contrasts(trainings, "trained", ["model", "benchmark"])
    tables = {
        "table_1_merge": merges,
        "table_1_contrasts": of_merges,
        "table_2_freeze": trainings,
        "table_2_contrasts": of_trainings,
        "table_3_destruction": destroyed,
    }
    figures = {
        "table_1_merge": published_figures.merges(merges),
        "table_2_freeze": published_figures.trainings(trainings),
        "table_3_destruction": published_figures.destruction(destroyed),
    }
    said = [
        *said_of_merges(merges, of_merges),
        *said_of_freezing(trainings, of_trainings),
        *said_of_destruction(destroyed),
        *FAULTS,
    ]
    write_report(out, tables, figures, listed(said), provenance(model_name="published tables", seed=0))
    print("\n".join(said), f"\nTables, figures and sentences are in {out}")
