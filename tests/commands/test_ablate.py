"""`circuitkit ablate` and its verbs: what they write is what the API measures, and mistakes are told in one line."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import image

import circuitkit as ck
from circuitkit.commands.prompts import PairsFrom, load_with_pairs
from circuitkit.model import planted
from circuitkit.results import Result
from shell import Run

PLANTED, TOY = "planted-induction-llama", "deductor-5k"
CIRCUIT = planted.build(PLANTED).circuit
PREVIOUS, INDUCTION = CIRCUIT["previous"], CIRCUIT["induction"]
"""The head that the circuit hangs on, and one that reads it and writes the answer; a backup stands in for that one."""
VERB = "ablate"


def pairs(model: str, n: int) -> tuple[ck.Model, ck.Pairs]:
    return load_with_pairs(model, None, PairsFrom(n=n))


def dotted(head: tuple[int, int]) -> str:
    return f"{head[0]}.{head[1]}"


def written(out: Path, name: str, *results: str) -> pd.DataFrame:
    """The table that a study left, beside all its other files."""
    expected = {
        f"{name}.csv",
        f"{name}.png",
        f"{name}.svg",
        "provenance.json",
        *(f"{each}.safetensors" for each in results or (name,)),
    }
    # Prompts that are text are written too.
    assert {path.name for path in out.iterdir()} - {"prompts.json"} == expected
    assert image.imread(out / f"{name}.png").shape[0] > 100
    assert json.loads((out / "provenance.json").read_text())["study"].startswith("ablation.")
    return pd.read_csv(out / f"{name}.csv", dtype={"set_label": str})


def same(result: Result, other: Result) -> bool:
    return torch.equal(result.per_example.nan_to_num(-99), other.per_example.nan_to_num(-99)) and (
        (result.axes, result.title, result.labels) == (other.axes, other.title, other.labels)
    )


def test_the_verb_alone_finds_the_planted_head(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(PLANTED, "--n", 6, "--out", tmp_path / "out") == 0
    table = written(tmp_path / "out", "heads")
    top = table.loc[table["effect"].idxmax()]
    assert (top["layer"], top["head"]) == PREVIOUS
    expected = ck.ablation.sweep(*pairs(PLANTED, 6), how="mean", progress=False)
    assert same(Result.load(tmp_path / "out" / "heads.safetensors"), expected)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("Ablating heads (mean), planted-induction-llama: logit_difference, clean")
    assert said[2].split()[:2] == [*map(str, PREVIOUS)] and said[-1].endswith(f"all are in {tmp_path / 'out'}/")


def test_growing_starts_with_the_planted_head(run: Run, tmp_path: Path) -> None:
    assert run("grow", PLANTED, "--size", 2, "--controls", 3, "--n", 4, "--out", tmp_path) == 0
    table = written(tmp_path, "growth")
    assert (table["layer"][0], table["head"][0]) == PREVIOUS
    growth = ck.ablation.grow(*pairs(PLANTED, 4), 2, "mean", controls=3, progress=False)
    assert same(Result.load(tmp_path / "growth.safetensors"), growth.result)
    np.testing.assert_allclose(table["control_mean"], growth.frame["control_mean"])


def test_sets_are_ablated_together_beside_random_ones(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = ["--set", f"circuit={dotted(PREVIOUS)},{dotted(INDUCTION)}", "--set", "0.0+0.1"]
    assert run("sets", PLANTED, *sets, "--how", "zero", "--controls", 4, "--n", 4, "--out", tmp_path) == 0
    table = written(tmp_path, "sets")
    named = {"circuit": [PREVIOUS, INDUCTION], "0.0+0.1": [(0, 0), (0, 1)]}
    joint = ck.ablation.sets(*pairs(PLANTED, 4), named, controls=4, progress=False)
    assert same(Result.load(tmp_path / "sets.safetensors"), joint.result)
    assert table["set_label"].tolist() == list(named)
    assert table["effect"][0] > 10 * abs(table["effect"][1]) and table["effect"][0] > table["control_high"][0]
    assert "circuit" in capsys.readouterr().out


def test_total_effects_stand_beside_direct_ones(run: Run, tmp_path: Path) -> None:
    heads = ["--heads", dotted(PREVIOUS), dotted(INDUCTION)]
    assert run("effects", PLANTED, *heads, "--how", "zero", "--n", 4, "--out", tmp_path) == 0
    table = written(tmp_path, "effects", "total", "direct").set_index(["layer", "head"])
    both = ck.ablation.effects(*pairs(PLANTED, 4), [PREVIOUS, INDUCTION], progress=False)
    for name in ("total", "direct"):
        assert same(Result.load(tmp_path / f"{name}.safetensors"), getattr(both, name))
    # The first head acts through the second, which writes the answer itself; a backup makes good what that one loses.
    assert table["total"][PREVIOUS] > 1 > 0.1 > abs(table["direct"][PREVIOUS])
    assert table["direct"][INDUCTION] > 2 * table["total"][INDUCTION] > 0
    assert table["repaired"][INDUCTION] == pytest.approx(table["direct"][INDUCTION] - table["total"][INDUCTION])


def test_neurons_of_a_layer_or_by_name(run: Run, tmp_path: Path) -> None:
    model, read = pairs(TOY, 3)
    assert run("neurons", TOY, "--layers", 1, "--n", 3, "--out", tmp_path / "layer") == 0
    table = written(tmp_path / "layer", "neurons")
    width = model.hf.config.intermediate_size
    assert set(table["layer"]) == {1} and table["neuron"].tolist() == list(range(width))
    assert run("neurons", TOY, "--neurons", "0.3", "1.5", "--how", "zero", "--n", 3, "--out", tmp_path / "two") == 0
    expected = ck.ablation.neurons.sweep(model, read, [(0, 3), (1, 5)], progress=False)
    assert same(Result.load(tmp_path / "two" / "neurons.safetensors"), expected)


def test_every_way_of_ablating_is_the_apis(run: Run, tmp_path: Path) -> None:
    reference = tmp_path / "reference.txt"
    texts = ["Every wumpus is a dumpus. Every dumpus is a tumpus. Alex is a wumpus." * 3, "Fae is a zumpus."]
    reference.write_text("\n".join(texts), encoding="utf-8")
    ways = {
        "scale": (["--factor", "-0.5"], {"factor": -0.5}),
        "mean": (["--reference", reference, "--by-position"], {"reference": texts, "by_position": True}),
        "resample": (["--seed", "3"], {"seed": 3}),
    }
    read = ["--prompt", "Every wumpus is a dumpus.", "--prompt", "Every dumpus is a wumpus."]
    for how, (words, settings) in ways.items():
        assert run(TOY, "--how", how, *words, *read, "--out", tmp_path / how) == 0
        expected = ck.ablation.sweep(ck.load(TOY), read[1::2], how=how, progress=False, **settings)
        assert same(Result.load(tmp_path / how / "heads.safetensors"), expected)
    assert run(TOY, *read[:2], "--out", tmp_path / "one") == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([TOY, "--heads", "9.0"], "layer 9"),
        ([TOY, "--heads", "two"], "a head is written layer.head, such as 2.1, not 'two'"),
        (["sets", TOY, "--set", "movers="], "set 'movers=' is empty: write NAME=HEAD,HEAD, such as movers=2.1,2.3"),
        (["sets", TOY, "--set", "=0.1"], "set '=0.1' has no name"),
        (["sets", TOY, "--set", "a=0.0", "--set", "a=0.1"], "two sets are called 'a'"),
        (["sets", TOY, "--set", "a=0.0,0.0"], "set 'a' names a head twice"),
        (["sets", TOY, "--set", "a=0.99"], "head 99"),
        (["sets", TOY], "--set"),
        (["grow", TOY, "--size", "0"], "a set of 0 heads cannot be grown"),
        (["grow", TOY], "--size"),
        (["neurons", TOY, "--neurons", "0.99999"], "neuron 99999 does not exist"),
        (["neurons", TOY, "--neurons", "0.1", "--layers", "0"], "give one of the two"),
        (["neurons", TOY, "--layers", "7"], "layer 7 does not exist"),
        (["neurons", TOY, "--how", "zero", "--reference", "x.txt"], "--reference goes with --how mean"),
        ([TOY, "--how", "scale"], "give a --factor"),
        ([TOY, "--factor", "2"], "--factor goes with --how scale, and --how is mean"),
        ([TOY, "--how", "zero", "--by-position"], "--by-position goes with --how mean, and --how is zero"),
        ([TOY, "--how", "zero", "--reference", "x.txt"], "--reference goes with --how mean or resample"),
        ([TOY, "--reference", "absent.txt"], "absent.txt cannot be read"),
        ([TOY, "--prompt", "a", "--task", "induction"], "--prompt names what is read"),
    ],
)
def test_mistakes_are_told_in_one_line(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    assert run(*words, "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err.splitlines()
    # A progress bar of loading may come before it.
    assert said[-1].startswith("circuitkit: ") and told in said[-1]
    assert len([line for line in said if line.startswith("circuitkit: ")]) == 1
    assert not (tmp_path / "out").exists()


def test_a_file_of_pairs_that_is_cut_short_is_named(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = json.dumps({"clean": "Fae is a", "corrupt": "Alex is a", "answer": " wumpus", "distractor": " dumpus"})
    path = tmp_path / "pairs.jsonl"
    path.write_text(f"{line}\n{line[:40]}", encoding="utf-8")
    assert run("effects", TOY, "--pairs", path, "--out", tmp_path / "out") == 2
    told = capsys.readouterr().err
    assert told.startswith("circuitkit: ") and told.count("\n") == 1
    assert "pairs.jsonl" in told and "line 2" in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("verb", ["sets", "grow", "effects", "neurons"])
def test_each_verb_has_its_help(run: Run, capsys: pytest.CaptureFixture[str], verb: str) -> None:
    assert run(verb, "--help") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"Usage: circuitkit ablate {verb}" in said and "--metric" in said and "--out" in said
    assert run("--help") == 0
    assert f"circuitkit ablate {verb} deductor-130k" in " ".join(capsys.readouterr().out.split())


def test_help_is_told_without_torch() -> None:
    code = "import sys; from circuitkit import cli\n"
    code += "cli.app.meta(['ablate', 'grow', '--help'], result_action='return_value')\n"
    code += "sys.exit('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0 and "--size" in ran.stdout, ran.stderr
