"""`circuitkit sweep`: what is described is what runs, and what is wrong is told in one line."""

import signal
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

import circuitkit as ck
from circuitkit.commands.prompts import PairsFrom, load_with_pairs
from circuitkit.studies import Sweep
from shell import Run

VERB = "sweep"

ABLATIONS = """
study = "ablation.sweep"
[parameters]
task = "deductions"
n = 4
[grid]
model = ["deductor-5k"]
how = ["zero", "mean"]
seed = [0, 1]
"""

PYTHON = """
from circuitkit.studies import grid

def half(x):
    if x == 3:
        raise ValueError("three")
    return x / 2

def size(model: "ck.Model", by):
    return model.n_layers * by

def cells():
    return grid(half, x=range(4))

few = grid(half, x=[0, 2])
number = 1
"""


@pytest.fixture
def run(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return run


def test_a_described_sweep_is_the_studies_themselves(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "heads.toml").write_text(ABLATIONS)
    assert run("cells", "heads.toml") == 0
    assert capsys.readouterr().out.endswith("4 cells\n")
    assert run("run", "heads.toml", "--out", "heads", "--dtype", "float32") == 0
    assert "4 of 4 cells are done in heads/" in capsys.readouterr().out
    sweep = Sweep.load("heads")
    assert sweep.frame[["model", "how", "seed"]].values.tolist() == [
        ["deductor-5k", how, seed] for how in ("zero", "mean") for seed in (0, 1)
    ]
    model, pairs = load_with_pairs("deductor-5k", None, PairsFrom(task="deductions", n=4, seed=1))
    direct = ck.ablation.sweep(model, pairs, how="mean", seed=1, progress=False)
    result = sweep.value(3)
    assert isinstance(result, ck.Result)
    torch.testing.assert_close(result.per_example, direct.per_example)
    assert run("table", "heads", "--csv", "table.csv") == 0
    written = pd.read_csv("table.csv")
    assert written["clean"].tolist() == pytest.approx(sweep.frame["clean"].tolist())
    assert run("table", "heads") == 0
    assert "largest_effect" in capsys.readouterr().out


def test_patching_pairs_of_a_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text(
        '{"clean": "Alex is a wumpus. Alex is a", "corrupt": "Alex is a lempus. Alex is a", "answer": " wumpus", '
        '"distractor": " lempus"}\n'
    )
    (tmp_path / "patch.toml").write_text(
        'study = "patching.sweep"\n[parameters]\npairs = "pairs.jsonl"\nmodel = "deductor-5k"\n'
        '[grid]\nover = ["z", "resid_pre"]\n'
    )
    assert run("run", "patch.toml", "--out", "patch") == 0
    axes = []
    for row in (0, 1):
        result = Sweep.load("patch").value(row)
        assert isinstance(result, ck.Result)
        axes.append(result.axes)
    assert axes == [("layer", "head"), ("layer", "position")]


def test_cells_from_python_their_failures_and_what_is_left(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(PYTHON)
    assert run("run", "mine.py:cells", "--out", "out", "--shard", "1/2") == 0
    assert "2 of 4 cells are done in out/, 2 left to other shards" in capsys.readouterr().out
    assert run("status", "out") == 0
    assert capsys.readouterr().out == "4 cells: 2 done, 0 failed, 0 running, 2 left\n"
    assert run("run", "mine:cells", "--out", "out", "--shard", "2/2") == 1
    shown = capsys.readouterr().out
    assert "3 of 4 cells are done in out/, 1 failed" in shown and "ValueError: three" in shown
    assert run("failures", "out") == 0
    shown = capsys.readouterr().out
    assert shown.startswith("x=3\n") and 'raise ValueError("three")' in shown and shown.endswith("1 failed\n")
    assert run("run", "mine:few", "--out", "out") == 0
    assert run("status", "out") == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "2 cells: 2 done, 0 failed, 0 running, 0 left",
        "2 more ended that were asked for before, by other parameters, code or versions",
    ]
    assert run("run", "mine:cells", "--out", "out", "--retry-failed") == 1
    assert Sweep.load("out").failures["attempt"].tolist() == [2]
    assert run("run", "mine:few", "--out", "out", "--version", "2") == 0
    assert len(list((tmp_path / "out" / "done").iterdir())) == 5


def test_a_function_of_ones_own_in_toml(run: Run, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(PYTHON)
    (tmp_path / "own.toml").write_text(
        'study = "own.py:size"\n[grid]\nmodel = ["deductor-5k", "deductor-130k"]\nby = [1, 10]\n'
    )
    assert run("run", "own.toml", "--out", "own") == 0
    assert Sweep.load("own").frame["value"].tolist() == [2, 20, 3, 30]


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_an_interrupt_says_how_to_go_on(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], number: str
) -> None:
    (tmp_path / "stop.py").write_text(
        "import os, signal, time\n"
        f"def f(x):\n    if x:\n        os.kill(os.getpid(), signal.{number})\n        time.sleep(9)\n    return x\n"
        "cells = [(f, {'x': 0}), (f, {'x': 1})]\n"
    )
    sys.modules.pop("stop", None)
    # A shell has what it starts in the background ignore interrupts, these tests too.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert run("run", "stop:cells", "--out", "out") == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert "what was finished is kept: run it again to go on" in capsys.readouterr().err
    assert Sweep.load("out").frame["x"].tolist() == [0]
    assert list((tmp_path / "out" / "claims").iterdir()) == []


@pytest.mark.parametrize(
    ("described", "told"),
    [
        ("study =", "is not TOML"),
        ("[grid]\nx = [1]", "names no study"),
        ('study = "ablation.sweep"\nmodel = "x"', "'model' is not understood"),
        ('study = "ablation.sweep"', "names no model"),
        ('study = "ablation.sweep"\n[grid]\nhow = "zero"', "[grid] how is a list of values"),
        ('study = "ablation.sweep"\n[grid]\nn = [1]\n[parameters]\nn = 1', "'n' is in [parameters] and in [grid]"),
        ('study = "ablation.swoop"\n[grid]\nmodel = ["x"]', "'ablation.swoop' is no study"),
        ('study = "load"\n[grid]\nmodel = ["x"]', "'load' is no study"),
        ('study = "ablation.sweep"\n[grid]\nmodel = ["x"]\nhoe = ["zero"]', "ablation.sweep has no 'hoe'"),
        ('study = "ablation.sweep"\n[grid]\nmodel = [1]', "a model is named by a text, not 1"),
        ('study = "ablation.sweep"\n[grid]\nmodel = ["x"]\n[load]\ntype = "a"', "[load] has no 'type'"),
        ('study = "ablation.sweep"\n[grid]\nmodel = ["x"]\npairs = ["none.jsonl"]', "there is no file none.jsonl"),
        ('study = "none.py:f"', "there is no file none.py"),
        ('study = "json:f"', "json has no 'f'"),
        ('study = "none_such:f"', "No module named 'none_such'"),
        ('study = "json:__name__"', "is a str, and no function"),
    ],
)
def test_a_description_that_is_wrong(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], described: str, told: str
) -> None:
    (tmp_path / "wrong.toml").write_text(described)
    assert run("run", "wrong.toml", "--out", "out") == 2
    error = capsys.readouterr().err
    assert error.startswith("circuitkit: ") and error.count("\n") == 1 and told in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("run", "none.toml"), "none.toml cannot be read: No such file or directory"),
        (("run", "nothing"), "'nothing' is no sweep: give a .toml file"),
        (("run", "wrong.py:number"), "wrong.py:number is a int: cells are a list"),
        (("run", "wrong.py:few", "--shard", "3"), "a shard is written NUMBER/OF, such as 3/10"),
        (("run", "wrong.py:few", "--shard", "0/3"), "shards are counted from 1"),
        (("status", "."), "it has no sweep.json"),
        (("table", "none"), "it has no sweep.json"),
    ],
)
def test_a_command_that_is_wrong(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], told: str
) -> None:
    (tmp_path / "wrong.py").write_text(PYTHON)
    assert run(*words) == 2
    assert told in capsys.readouterr().err
