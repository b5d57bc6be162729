"""Families of one size: the published tables, and models asked anew."""

import json
import sys
from pathlib import Path

import pandas as pd
import pytest
from architecture import app
from decoders.families import (
    PROOFS,
    between_families,
    family_of,
    in_band,
    pairs,
    published,
    sentences,
    with_intervals,
)
from statsmodels.stats.proportion import proportion_confint

from circuitkit.tasks import prontoqa


def rows(**hits: int) -> pd.DataFrame:
    """Models named `family_number` with hits of 100 in one task."""
    told = [
        {
            "model": name,
            "family": name.split("_")[0],
            "parameters": 1.5e9,
            "instruct": False,
            "class": name.split("_")[0],
        }
        for name in hits
    ]
    return with_intervals(pd.DataFrame(told).assign(task="sums", hits=list(hits.values()), n=100))


def test_the_band_goes_by_the_decimal_of_the_names() -> None:
    # OpenELM-1_1B has 1,079,891,456 parameters, and SmolLM2-1.7B 1,711,376,384.
    assert in_band(1_079_891_456) and in_band(1_711_376_384)
    assert not in_band(1_000_000_000) and not in_band(1_760_000_000)


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("apple/OpenELM-1_1B-Instruct", "OpenELM"),
        ("openai-community/gpt2-xl", "GPT-2"),
        ("stabilityai/stablelm-2-zephyr-1_6b", "Stable LM 2"),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", "Qwen2.5"),
        ("EleutherAI/pythia-1.4b", "pythia"),
        ("/models/mine-1b/", "mine"),
    ],
)
def test_a_family_is_told_from_the_name(name: str, family: str) -> None:
    assert family_of(name) == family


def test_the_published_models_of_the_band() -> None:
    table = published()
    assert set(table["family"]) == {"OpenELM", "TinyLlama", "GPT-2", "Stable LM 2", "SmolLM2", "Qwen2.5"}
    csqa = table[table["task"] == "CommonsenseQA"].set_index("model")
    assert csqa.loc["OpenELM-1_1B", "hits"] == 252 and csqa.loc["OpenELM-1_1B", "n"] == 1221
    low, high = proportion_confint(252, 1221, method="wilson")
    assert tuple(csqa.loc["OpenELM-1_1B", ["low", "high"]]) == pytest.approx((low, high))
    proofs = table[table["task"] == PROOFS].set_index("model")
    own = table[(table["model"] == "gpt2-xl") & table["task"].isin(prontoqa.RULES)]
    assert proofs.loc["gpt2-xl", "hits"] == own["hits"].sum() == 425 and proofs.loc["gpt2-xl", "n"] == 600


def test_published_pairs_say_what_the_tables_hold() -> None:
    compared = pairs(published())
    alike = compared[compared["same_class"] & (compared["task"] == "CommonsenseQA")].iloc[0]
    assert {alike["first_model"], alike["second_model"]} == {"SmolLM2-1.7B", "TinyLlama_v1.1"}
    assert abs(alike["points"]) == pytest.approx(100 * (670 - 250) / 1221)
    assert alike["low"] < alike["points"] < alike["high"] and alike["low"] * alike["high"] > 0
    said = " ".join(sentences(published()))
    assert "both of class Llama and trained on other data" in said
    assert "TinyLlama_v1.1 (1.1 billion) against OpenELM-1_1B (1.1 billion) -0.2 points" in said


def test_families_that_differ_take_the_variance_and_chance_does_not() -> None:
    told = between_families(rows(A_1=20, A_2=22, B_1=80, B_2=78, C_1=50, C_2=52)).iloc[0]
    assert told["share"] > 0.95 and told["p"] < 0.01 and told["families"] == 3
    assert between_families(rows(A_1=20, A_2=80, B_1=21, B_2=79)).iloc[0]["share"] < 0.1
    # Nothing to divide by: no family's models differ, or there is one family.
    assert between_families(rows(A_1=20, A_2=20, B_1=80, B_2=80)).empty
    assert between_families(rows(A_1=20, A_2=40)).empty


def test_models_of_a_family_are_no_pair() -> None:
    assert len(pairs(rows(A_1=20, A_2=22, B_1=80))) == 2
    assert sentences(rows(A_1=20, A_2=20)) == []


def test_the_published_way_writes_everything(tmp_path: Path) -> None:
    run("--out", str(tmp_path), "--published")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "families.csv",
        "between_families.csv",
        "pairs.csv",
        "families.png",
        "families.svg",
        "answer.md",
        "provenance.json",
    }
    assert len(pd.read_csv(tmp_path / "families.csv")) == len(published())
    assert "gpt2-xl" in json.loads((tmp_path / "provenance.json").read_text())["model"]


def test_models_are_asked_and_go_on_where_they_stopped(tmp_path: Path) -> None:
    named = ["--models", "deductor-5k", "--models", "deductor-5k-base", "--families", "one", "--families", "two"]
    asked = ["--out", str(tmp_path), *named, "--tasks", "conjunction_elimination", "--proofs", "2", "--no-progress"]
    run(*asked, "--smallest", "0", "--largest", "0.1")
    table = pd.read_csv(tmp_path / "families.csv")
    assert list(table["family"]) == ["one", "two"] and list(table["instruct"]) == [False, False]
    assert list(table["n"]) == [2, 2] and list(table["parameters"]) == [4144, 4144]
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "answers" / "done").glob("*.json")}
    run(*asked, "--smallest", "0", "--largest", "0.1")
    assert done == {path: path.stat().st_mtime_ns for path in (tmp_path / "answers" / "done").glob("*.json")}


def test_a_model_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"deductor-5k has 4,144 parameters, and models of 1.1 to 1.7 billion"):
        run("--out", str(tmp_path), "--models", "deductor-5k", "--tasks", "conjunction_elimination", "--no-progress")
    with pytest.raises(SystemExit, match="1 families are named for 2 models"):
        run("--out", str(tmp_path), "--models", "deductor-5k", "--models", "deductor-20k", "--families", "one")


@pytest.mark.slow
def test_the_quick_study_from_end_to_end(tmp_path: Path) -> None:
    run("--out", str(tmp_path), "--quick", "--no-progress", "--workers", "2")
    models = pd.read_csv(tmp_path / "models.csv")
    assert len(models) == 16 and models["asked"].eq(14).all()
    assert (models["parameters"] / models["parameters"].min()).max() < 1.01
    assert {path.name for path in tmp_path.glob("*.png")} >= {"learning.png", "losses.png", "kinds.png"}
    kinds = pd.read_csv(tmp_path / "by_kind.csv")
    assert len(kinds) == 4 * 2 * 14 and kinds["asked"].eq(2).all()
    written = {path.name: path.read_bytes() for path in tmp_path.glob("*.csv")}
    trainings = {path: path.stat().st_mtime_ns for path in (tmp_path / "trainings" / "done").iterdir()}
    run("--out", str(tmp_path), "--quick", "--no-progress")
    assert written == {path.name: path.read_bytes() for path in tmp_path.glob("*.csv")}
    assert trainings == {path: path.stat().st_mtime_ns for path in (tmp_path / "trainings" / "done").iterdir()}


def run(*arguments: str) -> None:
    """The script, as a shell would call it."""
    assert "architecture" in sys.modules
    app(list(arguments), result_action="return_value")
