"""What the page on sweeps says is so."""

import re
import tomllib
from pathlib import Path

import pytest

from circuitkit import cli
from circuitkit.studies import Sweep
from circuitkit.studies.cells import name_cells

PAGE = (Path(__file__).parents[2] / "docs" / "sweeps.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)
    assert found is not None
    return found[1]


def test_the_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    exec(block("python"), {})
    assert len(Sweep.load("heads")) == 4
    assert "largest_head" in capsys.readouterr().out


def test_the_description_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from circuitkit.commands.sweep.description import described

    (tmp_path / "heads.toml").write_text(block("toml"))
    assert tomllib.loads(block("toml"))["study"] == "ablation.sweep"
    named = name_cells(described(str(tmp_path / "heads.toml")))
    assert len(named) == 12
    assert all(each.cell.parameters["model"].dtype == "float32" for each in named)


def test_every_command_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    verbs = set(re.findall(r"circuitkit sweep (\w+)", PAGE))
    assert verbs >= {"run", "status", "table"}
    for verb in verbs:
        with pytest.raises(SystemExit) as ended:
            cli.main(["sweep", verb, "--help"])
        assert ended.value.code == 0
