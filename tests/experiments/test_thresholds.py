"""The threshold study as a user runs it: at a small size, twice into the same folder."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from circuitkit.thresholds import Threshold

SCRIPT = Path(__file__).parents[2] / "experiments" / "thresholds.py"
MODELS = ("deductor-5k", "deductor-20k", "deductor-60k", "deductor-130k", "deductor-60k-base=base")

pytestmark = pytest.mark.slow


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    without = {name: value for name, value in os.environ.items() if name != "CIRCUITKIT_DATA"}
    environment = without | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, env=environment, check=True
    )


def test_a_study_is_written_whole_and_goes_on_where_it_was(tmp_path: Path) -> None:
    asked = ("--n", "4", "--draws", "19", "--tasks", "prontoqa/implication_elimination/1", "--equal-shots")
    told = run("--out", str(tmp_path), "--models", *MODELS, *asked, "--decoding", "clean", "paper").stdout
    accuracy = pd.read_csv(tmp_path / "accuracy.csv")
    assert len(accuracy) == len(MODELS) * 2 and set(accuracy["decoding"]) == {"clean", "paper"}
    assert set(accuracy["family"]) == {"deductor-reason", "base"} and (accuracy["total"] == 4).all()
    clean = accuracy[accuracy["decoding"] == "clean"].set_index("model")["correct"]
    assert clean["deductor-5k"] == 0 and clean["deductor-130k"] == 4
    assert len(pd.read_csv(tmp_path / "attention.csv")) == len(MODELS)
    fits = sorted((tmp_path / "fits").glob("*.json"))
    # Of either decoding: all models, and the one family that has four sizes.
    assert len(fits) == 4 and all(Threshold.load(fit).sentences()[0] in told for fit in fits)
    thresholds = pd.read_csv(tmp_path / "thresholds.csv")
    assert told.startswith(f"- Of {len(thresholds)} searches, ")
    assert thresholds["family"].tolist() == ["all", "deductor-reason"] * 2
    for name in ("accuracy_clean", "accuracy_paper", "unparseable_clean", "attention_against_accuracy"):
        assert (tmp_path / "figures" / f"{name}.png").stat().st_size > 10_000
    assert (tmp_path / "provenance.json").is_file() and (tmp_path / "sentences.md").is_file()
    scores = pd.read_csv(tmp_path / "attention.csv")
    first, *others = sorted((tmp_path / "evaluations").rglob("responses.jsonl"))
    whole = first.read_bytes()
    # Each response's line holds how long it took: one that is asked again has other bytes.
    left = {path: path.read_bytes() for path in others}
    # What a process that is killed while it writes leaves behind: half a line, and nothing of what comes after.
    first.write_bytes(whole[: len(whole) // 2])
    next(first.parent.glob("gold_scores_*")).unlink()
    (tmp_path / "accuracy.csv").unlink()
    run("--out", str(tmp_path), "--models", *MODELS, *asked, "--decoding", "clean", "paper")
    assert left == {path: path.read_bytes() for path in others}
    again = first.read_bytes()
    assert again.count(b"\n") == whole.count(b"\n") == 4
    kept = whole[: len(whole) // 2].rfind(b"\n") + 1
    assert kept > 0 and again[:kept] == whole[:kept]
    assert pd.read_csv(tmp_path / "accuracy.csv").equals(accuracy)
    assert pd.read_csv(tmp_path / "attention.csv").equals(scores)


def test_the_published_study_says_what_it_lacks(tmp_path: Path) -> None:
    told = run("--out", str(tmp_path), "--published", "--draws", "19").stdout
    assert "Not judged: CIRCUITKIT_DATA names no folder" in told and "all (24 models): Spearman 0.13 (p = 0.54" in told
    table = pd.read_csv(tmp_path / "thresholds.csv").set_index("task")
    assert len(table) == 10 and 1.5e9 < table.loc["CommonsenseQA", "breakpoint"] < 1.6e9


def test_the_help_lists_the_papers_models() -> None:
    told = run("--help").stdout
    assert "stabilityai/stablelm-2-zephyr-1_6b" in told and told.count("apple/OpenELM") == 8 and "--equal-shots" in told
