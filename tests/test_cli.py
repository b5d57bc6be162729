"""The command line: quick help, statuses that scripts can rely on, and errors in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

import architectures
from circuitkit import circuits, cli
from shell import status


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return architectures.folder("llama", tmp_path)


def test_help_names_every_verb_without_importing_torch() -> None:
    code = "import sys; from circuitkit import cli; cli.app.meta(['--help'], result_action='return_value'); "
    code += "sys.exit('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert all(verb in ran.stdout for verb in cli.VERBS)


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status(verb, "--help") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"Usage: circuitkit {verb}" in shown
    # Verbs that are all verbs of their own name those; each has its options in its own help. A report loads no model.
    assert {"sfn": "destroy", "circuit": "evaluate", "report": "--beside"}.get(verb, "--dtype") in shown


def test_doctor_on_a_sound_model(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert status("doctor", str(folder), "--attn-implementation", "eager", "--out", str(tmp_path / "table.csv")) == 0
    assert "float32 on cpu, attention eager" in capsys.readouterr().out
    assert set(pd.read_csv(tmp_path / "table.csv")["verdict"]) == {"ok"}


def test_doctor_on_a_model_that_fails(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from transformers import AutoModelForCausalLM

    hf = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        hf.model.layers[1].self_attn.o_proj.weight.zero_()
    hf.save_pretrained(folder)
    assert status("doctor", str(folder)) == 1
    shown = capsys.readouterr().out
    assert "FAILED" in shown
    assert "worst in layer 1; an edit of this layer's pattern has no effect" in shown


def test_what_the_user_got_wrong_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status("doctor", str(tmp_path)) == 2
    assert capsys.readouterr().err == f"circuitkit: {tmp_path} is not a model folder: it has no config.json\n"
    assert status("doctor", "planted-nonesuch") == 2
    told = capsys.readouterr().err
    assert told.startswith("circuitkit: ") and told.count("\n") == 1
    assert status("patch", "deductor-5k", "--pairs", "/nonexist", "--out", str(tmp_path / "out")) == 2
    assert capsys.readouterr().err == "circuitkit: /nonexist cannot be read: No such file or directory\n"
    assert not (tmp_path / "out").exists()
    assert status("nonesuch") == 2
    assert 'Unknown command "nonesuch"' in capsys.readouterr().err


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="not a model folder"):
        cli.main(["doctor", str(tmp_path), "--debug"])


def test_an_error_that_is_not_the_users_keeps_its_traceback(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("circuitkit.doctor.examine", broken)
    with pytest.raises(ZeroDivisionError):
        cli.main(["doctor", str(folder)])


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_pipe_that_nobody_reads_ends_a_verb_without_a_word(tmp_path: Path, unbuffered: str) -> None:
    layout = circuits.Layout((1,), (1,), (False,))
    convention = circuits.Convention("eap", "logit_difference")
    file = circuits.Graph(layout, layout.reach.float(), layout.reach, convention).save(tmp_path / "graph.safetensors")
    reading, writing = os.pipe()
    os.close(reading)
    # As behind `| head` once it has read enough.
    ran = subprocess.run(
        [Path(sys.executable).parent / "circuitkit", "circuit", "show", file],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
    )
    os.close(writing)
    assert (ran.returncode, ran.stderr) == (141, "")


def test_another_pipe_that_breaks_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("circuitkit.doctor.examine", broken)
    with pytest.raises(BrokenPipeError):
        cli.main(["doctor", str(folder)])
