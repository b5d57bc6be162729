"""`circuitkit eval`: what it writes is what the API finds, it goes on, and mistakes are told in one line."""

import json
from pathlib import Path

import pandas as pd
import pytest
from matplotlib import image

import circuitkit as ck
from circuitkit.evaluation import Evaluation
from shell import Run

TOY, TASK = "deductor-20k", "prontoqa/implication_elimination/2"
VERB = "eval"


def test_it_finds_what_the_api_finds_and_compares(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--task", TASK, "--shots", 0, "--limit", 12]
    whole, without = tmp_path / "whole", tmp_path / "without"
    assert run(TOY, *asked, "--out", whole) == 0
    said = capsys.readouterr().out
    expected = ck.evaluate(ck.load(TOY), ck.tasks.load(TASK), shots=0, limit=12, progress=False)
    assert f"right {expected.accuracy}" in said
    assert {path.name for path in whole.iterdir()} == {
        "responses.jsonl", "settings.json", "evaluation.json", "table.csv", "accuracy.png", "accuracy.svg",
    }  # fmt: skip
    table = pd.read_csv(whole / "table.csv")
    assert table["accuracy"].tolist() == [expected.accuracy.value] and table["n"].tolist() == [12]
    assert image.imread(whole / "accuracy.png").shape[0] > 100
    kept = (whole / "responses.jsonl").read_bytes()
    assert run(TOY, *asked, "--out", whole) == 0 and (whole / "responses.jsonl").read_bytes() == kept
    assert run(TOY, *asked, "--ablate-heads", "0.0", "1.1", "--compare", whole, "--out", without) == 0
    said = capsys.readouterr().out
    ablated = Evaluation.load(without)
    assert str(ck.evaluation.compare(expected, ablated)) in said
    assert ablated.provenance["interventions"] == [
        "replace z[layer=0, head=0] (both)",
        "replace z[layer=1, head=1] (both)",
    ]


def test_drawn_tokens_are_set_from_the_shell(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--temperature", 0.9, "--top-p", 0.95, "--seeds", 0, 1, "--samples", 2]
    assert run(TOY, "--task", TASK, "--shots", 0, "--limit", 3, *words, "--by", "hops", "--out", tmp_path) == 0
    assert "mean over 2 seeds" in capsys.readouterr().out
    told = json.loads((tmp_path / "evaluation.json").read_text())["provenance"]
    assert told["decoding"]["temperature"] == 0.9 and told["seeds"] == [0, 1] and told["samples"] == 2


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--task", "riddles"], "there is no task 'riddles'"),
        (["--task", TASK, "--ablate-heads", "two"], "a head is written layer.head"),
        (["--task", TASK, "--ablate-heads", "0.99", "--limit", 1], "head 99 does not exist"),
        (["--task", TASK, "--decoding", "paper", "--temperature", 1], "has its own settings"),
        (["--task", TASK, "--samples", 2], "greedy"),
        (["--task", TASK, "--chat"], "no chat template"),
        (["--task", TASK, "--compare", "nowhere"], "is not there"),
    ],
)
def test_mistakes_are_told_in_one_line(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[object], why: str
) -> None:
    assert run(TOY, *words, "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("circuitkit: ") and why in said
