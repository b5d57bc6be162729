"""The published tables that the experiments carry: whole, consistent, and equal to the shared ones if there are."""

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from published_thresholds import agreement, attention_table

import circuitkit as ck

PUBLISHED = Path(__file__).parents[2] / "experiments" / "published"
# Tables of one row a model; those of another shape have tests of their own.
TABLES = sorted(path for path in PUBLISHED.glob("*.json") if path.stem not in ("sfn", "thinking_sparks"))
RULES = {
    "implication_elimination",
    "conjunction_introduction",
    "conjunction_elimination",
    "disjunction_introduction",
    "disjunction_elimination",
    "proof_by_contradiction",
}


def table(name: str) -> dict[str, Any]:
    return json.loads((PUBLISHED / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["csqa", "prontoqa"])
def test_a_table_is_the_shared_one(name: str) -> None:
    if not (data := os.environ.get("CIRCUITKIT_DATA")):
        pytest.skip("CIRCUITKIT_DATA is not set: it names the folder with published/csqa.json")
    shared = json.loads((Path(data) / "published" / f"{name}.json").read_text(encoding="utf-8"))["models"]
    assert [{key: row[key] for key in row if key != "instruct"} for row in table(name)["models"]] == shared


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_every_table_says_where_it_is_from_and_its_rows_are_plausible(path: Path) -> None:
    read = table(path.stem)
    cited = "NeurIPS 2025 workshop" if path.stem == "elicitation" else "arXiv 2502.15120"
    assert cited in read["source"] and read["notes"] and read["models"]
    columns: dict[str, tuple[str, int]] = {}
    for row in read["models"]:
        # A model is of one family and one size wherever it turns up.
        assert columns.setdefault(row["model"], (row["family"], row["parameters"])) == (
            row["family"],
            row["parameters"],
        )
        for key in row.keys() & RULES:
            assert 0 <= row[key] <= (1 if path.stem == "attention_scores" else 100)


def test_models_agree_between_tables() -> None:
    known: dict[str, tuple[str, int, bool]] = {}
    for path in TABLES:
        for row in table(path.stem)["models"]:
            told = row["family"], row["parameters"], row["instruct"]
            assert known.setdefault(row["model"], told) == told


def test_the_elicitation_table_is_the_shared_one() -> None:
    if not (data := os.environ.get("CIRCUITKIT_DATA")):
        pytest.skip("CIRCUITKIT_DATA is not set: it names the folder with published/elicitation.json")
    shared = json.loads((Path(data) / "published" / "elicitation.json").read_text(encoding="utf-8"))["rows"]
    names = {"none": "Qwen2.5-Instruct (base)", "distilled": "DeepSeek-R1-Distill", "lora": "LoRA (1000 examples)"}
    numbers = ["aime", "aime_se", "gpqa", "gpqa_se"]
    ours = {
        (f"{row['parameters'] / 1e9:g}B", names.get(row["training"], f"Full finetune ({row['examples']} examples)")): [
            row[name] for name in numbers
        ]
        for row in table("elicitation")["models"]
    }
    assert len(ours) == 36
    assert ours == {(row["size"], row["configuration"]): [row[name] for name in numbers] for row in shared}


def test_accuracies_of_the_elicitation_table_are_whole_answers_over_four_seeds() -> None:
    for row in table("elicitation")["models"]:
        for name, answers in (("aime", 4 * 60), ("gpqa", 4 * 198)):
            right = round(row[name] * answers / 100)
            assert row[name] == pytest.approx(100 * right / answers, abs=0.0051)


def test_counts_of_answers_add_up() -> None:
    for row in table("csqa")["models"]:
        assert row["total"] == 1221 and row["correct"] + row["unparseable"] <= 1221
    # The revision rounds percentages of as many questions; it disagrees by what its notes say, and by no more than 3.
    first = {row["model"]: 100 * row["correct"] / 1221 for row in table("csqa")["models"]}
    for row in table("revision")["models"]:
        if row["model"] in first and "csqa" in row:
            assert row["csqa"] == pytest.approx(first[row["model"]], abs=3.0)


def test_a_correlation_of_four_models_has_the_p_of_their_orders() -> None:
    table = attention_table()
    rows = ck.attention.against_accuracy(table).set_index("models_of")
    # Of the 24 orders of four models two are as far from none: this one and its reverse.
    assert rows.loc["GPT-2", ["correlation", "p"]].tolist() == [pytest.approx(-1), pytest.approx(2 / 24)]
    everyone = table["score"].corr(table["accuracy"], method="spearman")
    assert len(table) == 24 and rows.loc["all", "correlation"] == pytest.approx(everyone)


def test_agreement_with_the_released_shares_is_told_by_the_headline_rule_and_strictly() -> None:
    table = pd.DataFrame(
        {
            "correct": [0.97, 0.50, 0.30],
            "released": [0.96, 0.52, 0.30],
            "strict": [0.43, 0.40, 0.10],
            "released_strict": [0.43, 0.41, None],
        }
    )
    assert agreement(table) == (
        "3 runs judged: the headline share is within 0.01 of the released one in 2 of 3, the strict share is within "
        "0.01 of the released one in 2 of 2."
    )
