"""`circuitkit sfn`: each gadget does what the API does, tells it, and tells mistakes in one line."""

import inspect
import json
import re
import shlex
from pathlib import Path

import pandas as pd
import pytest
import torch
from matplotlib import image
from safetensors.torch import load_file

import circuitkit as ck
from circuitkit import cli
from circuitkit.commands.sfn import sfn
from shell import Run, status

VERB = "sfn"
A, B = "deductor-5k-base", "deductor-5k-reason"
TASK = "prontoqa/implication_elimination/1"


@pytest.fixture(scope="module")
def bytes_before() -> dict[Path, bytes]:
    """The files of the two checkpoints, which nothing may write to."""
    return {path: path.read_bytes() for path in sources()}


def sources() -> list[Path]:
    folders = (ck.sfn.Checkpoint.open(name).folder for name in (A, B))
    return [path for folder in folders if folder is not None for path in sorted(folder.iterdir()) if path.is_file()]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}


def test_delta_tells_what_the_api_finds(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "delta"
    assert run("delta", A, B, "--modules", "attention", "--histogram", "code", "--stable-rank", "--out", out) == 0
    said = capsys.readouterr().out
    found = ck.sfn.delta(A, B, ["attention"], histogram="code", progress=False)
    kept = ck.sfn.Delta.load(out)
    pd.testing.assert_frame_equal(kept.frame, found.frame)
    table = pd.read_csv(out / "modules.csv")
    assert table["norm"].tolist() == pytest.approx(found.frame["norm"].tolist())
    assert len(pd.read_csv(out / "heads.csv")) == len(found.heads)
    for row in found.by_module().itertuples():
        assert row.module in said and f"{row.norm:.4g}" in said
    for figure in ("heatmap", "histograms", "heads"):
        assert image.imread(out / f"{figure}.png").shape[0] > 100
    told = json.loads((out / "provenance.json").read_text())
    assert told["a"]["name"] == A and told["histogram"] == "code"
    assert not (out / "trajectory.csv").exists()


def test_delta_of_several_checkpoints_is_a_trajectory(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [A, A, B, "--modules", "o_proj", "--layers", "0-1", "--histogram", "none", "--no-modes", "--no-heads"]
    assert run("delta", *words, "--out", tmp_path) == 0
    table = pd.read_csv(tmp_path / "trajectory.csv")
    assert table["norm"].tolist()[0] == 0 and table["norm"].tolist()[-1] > 0
    assert image.imread(tmp_path / "trajectory.png").shape[0] > 100
    assert not (tmp_path / "histograms.png").exists() and not (tmp_path / "heads.csv").exists()


def test_several_checkpoints_are_told_by_step_and_by_name(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [A, A, B, "--modules", "o_proj", "norm", "--histogram", "none", "--no-modes", "--no-heads"]
    assert run("delta", *words, "--out", tmp_path) == 0
    said = capsys.readouterr().out.splitlines()
    norms = ck.sfn.delta(A, B, ["o_proj", "norm"], bimodality=False, stable_rank=False, progress=False).by_module()
    (at,) = [number for number, line in enumerate(said) if line == f"norm of B − {A} over all layers, by step:"]
    assert said[at + 1].split() == ["checkpoint", "o_proj", "norm"]
    assert said[at + 3].split() == ["1", A, "0", "0"]
    assert said[at + 4].split() == ["2", B, *(f"{norm:.4g}" for norm in norms["norm"])]
    assert said[at + 5] == f"the last of 2 checkpoints, {B}:"


def test_a_comparison_takes_the_place_of_an_earlier_one(run: Run, tmp_path: Path) -> None:
    bare = ["--histogram", "none", "--no-modes"]
    assert run("delta", A, A, B, "--modules", "o_proj", *bare, "--out", tmp_path) == 0
    (tmp_path / "notes.csv").write_text("mine")
    assert (tmp_path / "heads.png").exists() and (tmp_path / "trajectory.csv").exists()
    assert run("delta", A, B, "--modules", "embed", "lm_head", *bare, "--no-heads", "--out", tmp_path) == 0
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"delta.safetensors", "modules.csv", "provenance.json", "notes.csv"}


def test_no_comparison_is_made_for_a_place_that_is_a_file(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    monkeypatch.setattr(ck.sfn, "delta", None)
    for out in (file, file / "inside"):
        assert run("delta", A, B, "--out", out) == 2
        assert f"{file} is a file" in capsys.readouterr().err and file.read_text() == "mine"


def test_merge_writes_what_the_api_writes_and_no_source(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], bytes_before: dict[Path, bytes]
) -> None:
    words = [A, B, "--modules", "o_proj", "--layers", "-1", "--alpha", "0.5"]
    assert run("merge", *words, "--dry-run") == 0
    planned = capsys.readouterr().out
    assert "o_proj" in planned and "nothing is written" in planned and not list(tmp_path.iterdir())
    assert run("merge", *words, "--out", tmp_path / "shell") == 0
    said = capsys.readouterr().out
    ck.sfn.merge(A, B, ["o_proj"], tmp_path / "api", layers=[-1], alpha=0.5, progress=False)
    mine, theirs, before = (weights(tmp_path / "shell"), weights(tmp_path / "api"), weights(sources()[0].parent))
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    changed = [name for name in before if not torch.equal(before[name], mine[name])]
    assert len(changed) == 1 and changed[0] in said and f"written to {tmp_path / 'shell'}" in said
    told = json.loads((tmp_path / "shell" / "manifest.json").read_text())
    assert [each["tensor"] for each in told["changes"]] == changed and "sfn" not in before
    assert bytes_before == {path: path.read_bytes() for path in sources()}


def test_merge_of_heads_changes_their_columns_alone(run: Run, tmp_path: Path) -> None:
    assert run("merge", A, B, "--modules", "o_proj", "--heads", "0.1", "--out", tmp_path / "out") == 0
    model = ck.load(A)
    size = model.hf.config.head_dim
    name = "model.layers.0.self_attn.o_proj.weight"
    new, old = weights(tmp_path / "out")[name], weights(sources()[0].parent)[name]
    moved = (new != old).any(0).nonzero().flatten().tolist()
    assert moved == list(range(size, 2 * size))


def test_task_arithmetic_adds_donors(run: Run, tmp_path: Path) -> None:
    words = ["--modules", "v_proj", "--donor", f"{B}=0.5", f"{A}=2", "--out", tmp_path / "out"]
    assert run("merge", A, *words) == 0
    name = "model.layers.1.self_attn.v_proj.weight"
    folders = [ck.sfn.Checkpoint.open(each).folder for each in (A, B)]
    a, b = (weights(folder)[name].double() for folder in folders if folder is not None)
    torch.testing.assert_close(weights(tmp_path / "out")[name].double(), a + 0.5 * (b - a), rtol=0, atol=1e-7)


def test_a_plugin_is_written_and_every_command_takes_it(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, trained, file = "deductor-20k-base", "deductor-20k-reason", tmp_path / "mlp.safetensors"
    assert run("merge", base, trained, "--modules", "mlp", "--plugin", file) == 0
    assert str(file) in capsys.readouterr().out
    assert run("merge", base, trained, "--modules", "mlp", "--out", tmp_path / "grafted") == 0
    asked = ["--task", TASK, "--limit", 2, "--shots", 0, "--max-new-tokens", 8]
    models = {"with": [base, "--plugin", file], "written": [tmp_path / "grafted"], "without": [base]}
    said = {}
    for name, model in models.items():
        assert status("eval", *model, *asked, "--out", tmp_path / name) == 0
        said[name] = [each.text for each in ck.Evaluation.load(tmp_path / name).responses]
    assert said["with"] == said["written"] != said["without"]
    capsys.readouterr()
    assert status("eval", trained, *asked, "--plugin", file, "--out", tmp_path / "wrong") == 2
    assert "another base" in capsys.readouterr().err


def test_a_plugin_is_planned_and_never_overwritten(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["merge", A, B, "--modules", "o_proj", "--plugin"]
    file = tmp_path / "o.safetensors"
    assert run(*words, file, "--dry-run") == 0
    planned = capsys.readouterr().out
    assert not list(tmp_path.iterdir()) and "nothing is written" in planned
    assert run(*words, file) == 0
    saved = load_file(file)
    nbytes = sum(tensor.nbytes for tensor in saved.values())
    assert all(name in planned for name in saved)
    assert f"{file} would hold {len(saved)} tensors, {nbytes:,} bytes of weights" in planned
    before = file.read_bytes()
    capsys.readouterr()
    for more in ([], ["--dry-run"]):
        assert run(*words, file, *more) == 2
        assert "is there already" in capsys.readouterr().err and file.read_bytes() == before
        assert run(*words, tmp_path / "o.bin", *more) == 2
        assert "one .safetensors file" in capsys.readouterr().err
        assert run(*words, file / "o.safetensors", *more) == 2
        assert f"{file} is a file" in capsys.readouterr().err


def test_a_dry_run_says_how_many_bytes_change_and_are_written(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = weights(sources()[0].parent)
    whole = sum(tensor.nbytes for tensor in before.values())
    changed = sum(tensor.nbytes for name, tensor in before.items() if "o_proj" in name)
    said = f"{changed:,} bytes would change, of {whole:,} of weights that would be written"
    for words in (["merge", A, B], ["destroy", A]):
        assert run(*words, "--modules", "o_proj", "--dry-run") == 0
        assert said in capsys.readouterr().out


def test_destroy_writes_what_the_api_writes(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], bytes_before: dict[Path, bytes]
) -> None:
    words = [B, "--modules", "q_proj", "--layers", "0-1", "--how", "reinit", "--sigma", "0.1", "--seed", 3]
    assert run("destroy", *words, "--dry-run") == 0
    assert "nothing is written" in capsys.readouterr().out
    assert run("destroy", *words, "--out", tmp_path / "shell") == 0
    assert "q_proj" in capsys.readouterr().out
    ck.sfn.destroy(B, ["q_proj"], [0, 1], "reinit", tmp_path / "api", sigma=0.1, seed=3, progress=False)
    mine, theirs = weights(tmp_path / "shell"), weights(tmp_path / "api")
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert run("destroy", B, "--layers", 0, "--how", "remove", "--out", tmp_path / "removed") == 0
    without, tokens = ck.load(str(tmp_path / "removed")), torch.tensor([[3, 4, 5]])
    cache = without.run(tokens, capture=["blocks.0.hook_resid_pre", "blocks.0.hook_resid_post"]).cache
    assert torch.equal(cache["blocks.0.hook_resid_pre"], cache["blocks.0.hook_resid_post"])
    assert bytes_before == {path: path.read_bytes() for path in sources()}


def test_freeze_counts_without_training(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("freeze", A, "--train", "o_proj", "embed", "lm_head", "norm") == 0
    said = capsys.readouterr().out
    with ck.sfn.freeze(ck.load(A), ["o_proj", "embed", "lm_head", "norm"], progress=False) as frozen:
        assert f"{frozen.trainable:,} of {frozen.total:,} parameters of {A} are trained" in said
    rows = {line.split()[0]: line.split()[1:] for line in said.splitlines() if len(line.split()) == 3}
    assert rows["q_proj"][0] == "0" and rows["o_proj"][1] == "0" and "nothing is trained yet" in said


def test_freeze_trains_the_named_modules_and_proves_it(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--train", "o_proj", "--layers", "-1"]
    how = ["--task", TASK, "--limit", 4, "--shots", 0, "--learning-rate", 1e-2, "--max-steps", 1]
    assert run("freeze", A, *asked, *how, "--out", tmp_path) == 0
    said = capsys.readouterr().out
    assert "step 1 is taken" in said and "proved: the other" in said and "bit for bit" in said
    after, before = weights(tmp_path / "model"), weights(sources()[0].parent)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert len(moved) == 1 and "o_proj" in min(moved)
    assert run("freeze", A, *asked, "--against", tmp_path / "model") == 0
    assert "proved: the other" in capsys.readouterr().out
    assert run("freeze", A, "--train", "q_proj", "--against", tmp_path / "model") == 2
    assert f"the first is {min(moved)}" in capsys.readouterr().err


MERGE, DESTROY = ("merge", A, B), ("destroy", B)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["delta", A], "name two checkpoints"),
        (["delta", A, "nowhere"], "nowhere"),
        (["delta", A, "deductor-20k"], "checkpoints of one architecture and size can be paired"),
        (["delta", A, B, "--modules", "router"], "router"),
        (["delta", A, B, "--layers", "9"], "layer 9 does not exist"),
        (["delta", A, B, "--layers", "5-2"], "such as 5-29, not '5-2'"),
        ([*MERGE, "--out", "OUT"], "give --modules"),
        ([*MERGE, "--modules", "o_proj"], "--out FOLDER"),
        ([*MERGE, "--modules", "o_proj", "--out", "OUT", "--plugin", "o.safetensors"], "one of the two"),
        ([*MERGE, "--modules", "o_proj", "--alpha", "0.5", "--plugin", "OUT.safetensors"], "as they are"),
        ([*MERGE, "--modules", "o_proj", "--plugin", "OUT.bin"], "a plug-in is one .safetensors file"),
        ([*MERGE, "--modules", "o_proj", "--donor", "x=1", "--out", "OUT"], "one of the two"),
        (["merge", A, "--modules", "o_proj", "--out", "OUT"], "give B behind A"),
        (["merge", A, "--modules", "o_proj", "--donor", "x=much", "--out", "OUT"], "MODEL=WEIGHT"),
        (["merge", A, "--modules", "o_proj", "--donor", "x", "--out", "OUT"], "MODEL=WEIGHT"),
        (["merge", A, "--modules", "o_proj", "--donor", f"{B}=1", "--alpha", "0.5", "--out", "OUT"], "--alpha is"),
        ([*MERGE, "--modules", "o_proj", "--heads", "0.99", "--out", "OUT"], "head 99 does not exist"),
        ([*MERGE, "--modules", "mlp", "--heads", "0.0", "--out", "OUT"], "has no heads"),
        ([*MERGE, "--modules", "o_proj", "--heads", "0", "--out", "OUT"], "layer.head"),
        ([*MERGE, "--modules", "o_proj", "--heads", "0.0", "--layers", "0", "--out", "OUT"], "leave --layers out"),
        ([*MERGE, "--modules", "embed", "--out", "OUT"], "lm_head"),
        ([*MERGE, "--modules", "o_proj", "--alpha", "nan", "--out", "OUT"], "nan"),
        ([*MERGE, "--modules", "o_proj", "--out", "."], "is there already"),
        ([*DESTROY, "--modules", "o_proj"], "--out FOLDER"),
        ([*DESTROY, "--out", "OUT"], "give --modules"),
        ([*DESTROY, "--modules", "o_proj", "--sigma", "1", "--out", "OUT"], "--sigma is of --how reinit"),
        ([*DESTROY, "--modules", "o_proj", "--how", "reinit", "--sigma", "-1", "--out", "OUT"], "sigma"),
        ([*DESTROY, "--modules", "o_proj", "--how", "remove", "--layers", "0", "--out", "OUT"], "whole layers"),
        ([*DESTROY, "--how", "remove", "--out", "OUT"], "layers"),
        ([*DESTROY, "--modules", "o_proj", "--how", "burn", "--out", "OUT"], "burn"),
        (["delta", A, B, "--revision", "main"], f"'{A}' is not on the hub and has no revision 'main'"),
        (["delta", A, B, "--revision-b", "v2"], f"'{B}' is not on the hub and has no revision 'v2'"),
        ([*MERGE, "--modules", "o_proj", "--dry-run", "--revision", "v2"], f"'{A}' is not on the hub and has no"),
        ([*MERGE, "--modules", "o_proj", "--dry-run", "--revision-b", "v2"], f"'{B}' is not on the hub and has no"),
        (["merge", A, "--modules", "o_proj", "--donor", f"{B}=1", "--revision-b", "v2", "--dry-run"], "of a donor at"),
        ([*DESTROY, "--modules", "o_proj", "--dry-run", "--revision", "v2"], f"'{B}' is not on the hub and has no"),
        (["freeze", A], "say what is trained"),
        (["freeze", A, "--train", "router"], "router"),
        (["freeze", A, "--train", "embed"], "lm_head"),
        (["freeze", A, "--lora", 1], "circuitkit train --lora"),
        (["freeze", A, "--train", "o_proj", "--task", TASK, "--against", B], "--against proves"),
        (["freeze", A, "--train", "o_proj", "--against", B], "were to stay as in"),
        (["freeze", A, "--train", "o_proj", "--against", "deductor-20k"], "can be paired"),
    ],
)
def test_mistakes_are_told_in_one_line(
    run: Run,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[object],
    why: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*words) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("circuitkit: ") and why in said, said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [["delta", A, B], ["merge", A, B], ["merge", A, "--donor", f"{B}=1"], ["destroy", A]])
def test_remote_code_is_run_where_it_is_trusted(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    trusted = []
    opening = ck.sfn.Checkpoint.open

    def seen(source: str, **how: bool) -> ck.sfn.Checkpoint:
        if isinstance(source, str):
            trusted.append(how["trust_remote_code"])
        return opening(source, **how)

    monkeypatch.setattr(ck.sfn.Checkpoint, "open", seen)
    bare = ["--no-modes", "--out", tmp_path] if words[0] == "delta" else ["--dry-run"]
    for more in ([], ["--trust-remote-code"]):
        assert run(*words, "--modules", "o_proj", *bare, *more) == 0
    number = len(words[1:]) - ("--donor" in words)
    assert trusted == [False] * number + [True] * number


@pytest.mark.parametrize("verb", ["", "delta", "merge", "freeze", "destroy"])
def test_examples_of_help_fit_a_line_and_are_understood(verb: str) -> None:
    written = sfn.help_epilogue if not verb else sfn[verb].default_command.__doc__
    assert not verb or not sfn[verb].help_epilogue
    examples = re.findall(r"```\n(.*?)```", inspect.cleandoc(str(written)), flags=re.DOTALL)
    lines = [line for each in examples for line in each.splitlines()]
    assert lines and max(map(len, lines)) < 76
    for command in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        called, bound, _ = cli.app.parse_args(shlex.split(command)[1:], exit_on_error=False, print_error=False)
        assert callable(called) and bound.arguments
