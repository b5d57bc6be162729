"""`circuitkit eval --harness`: lm-eval's tasks from the shell are those of the API."""

import json
from pathlib import Path

import pandas as pd
import pytest
from matplotlib import image

import circuitkit as ck
from circuitkit.interop.lm_eval import HarnessEvaluation, evaluate
from shell import Run

VERB = "eval"
PROBLEMS = [{"problem": f"Find {number} + 1.", "answer": str(number + 1)} for number in range(3)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(problem) + "\n" for problem in PROBLEMS))
    return tmp_path / "own.jsonl"


def test_it_finds_what_the_api_finds(run: Run, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    own = ["--questions", f"aime24={file}", f"aime25={file}", "--max-new-tokens", 6, "--limit", 2, "--batch-size", 2]
    drawn = ["--temperature", 0.6, "--top-p", 0.9, "--seeds", 0, 3, "--ablate-heads", "1.1"]
    assert run("deductor-5k", "--harness", "aime24", "aime25", *own, *drawn, "--out", tmp_path / "out") == 0
    said = capsys.readouterr().out
    expected = evaluate(
        "deductor-5k",
        ["aime24", "aime25"],
        [ck.zero("z[layer=1, head=1]")],
        seeds=[0, 3],
        max_gen_toks=6,
        generation={"top_p": 0.9},
        data=dict.fromkeys(("aime24", "aime25"), PROBLEMS),
        limit=2,
        batch_size=2,
        progress=False,
    )
    found = HarnessEvaluation.load(tmp_path / "out")
    assert found.frame["response"].tolist() == expected.frame["response"].tolist()
    assert "AIME, both: 0.0 %" in said
    assert pd.read_csv(tmp_path / "out" / "table.csv")["task"].tolist() == ["aime24", "aime25"]
    assert image.imread(tmp_path / "out" / "harness.png").shape[0] > 100


def test_a_setting_that_is_given_acts_also_where_it_is_the_usual_one(
    run: Run, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # As Qwen's generation config does, in place of which --top-p 1 and --top-k 0 are to draw among all tokens.
    model = ck.load("deductor-5k")
    model.hf.generation_config.top_p, model.hf.generation_config.top_k = 0.1, 2
    monkeypatch.setattr("circuitkit.commands.eval.load", lambda *_: model)
    own = ["--harness", "aime24", "--questions", f"aime24={file}", "--max-new-tokens", 6, "--temperature", 5.0]
    told = {}
    for name, drawn in {"config": [], "whole": ["--top-p", 1, "--top-k", 0, "--repetition-penalty", 1]}.items():
        assert run("deductor-5k", *own, *drawn, "--out", tmp_path / name) == 0
        told[name] = HarnessEvaluation.load(tmp_path / name)
    assert told["config"].frame["response"].tolist() != told["whole"].frame["response"].tolist()
    generation = told["whole"].provenance["generation"]
    assert (generation["top_p"], generation["top_k"], generation["repetition_penalty"]) == (1, 0, 1)
    assert "top_p" not in told["config"].provenance["generation"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max-new-tokens", 4], "either --task, or --harness"),
        (["--task", "csqa", "--harness", "aime24"], "either --task, or --harness"),
        (["--harness", "aime24", "--shots", 3], "--shots is for --task"),
        (["--harness", "aime24", "--decoding", "paper"], "--decoding is for --task"),
        (["--harness", "aime24", "--questions", "own.jsonl"], "written TASK=PATH"),
        (["--task", "prontoqa/ModusPonens/1", "--questions", "a=b"], "--questions is for --harness"),
        (["--harness", "aime24", "--questions", "aime24=nowhere.jsonl"], "nowhere.jsonl cannot be read"),
    ],
)
def test_mistakes_are_told_in_one_line(run: Run, words: list[object], message: str, capsys: pytest.CaptureFixture[str]):
    assert run("deductor-5k", *words) == 2
    (line,) = [each for each in capsys.readouterr().err.splitlines() if each.startswith("circuitkit:")]
    assert message in line


def test_more_tokens_than_the_model_reads_are_told_before_anything_runs(
    run: Run, file: Path, capsys: pytest.CaptureFixture[str]
):
    assert run("deductor-5k", "--harness", "aime24", "--questions", f"aime24={file}") == 2
    assert "max_gen_toks 32768 leaves no room for a prompt, as deductor-5k reads 2048" in capsys.readouterr().err
