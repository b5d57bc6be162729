"""What the page on training says is so."""

import re
from pathlib import Path
from typing import Any

import pytest

import circuitkit as ck
from circuitkit.model.roles import GROUPS, ROLES
from circuitkit.training import PRESETS, Recipe

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for example in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)[:3]:
        exec(example, names)
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith(f"{names['trained'].chosen} 64 [")
    assert told[1] == "2, 3 and 5 do not divide it."
    assert re.fullmatch(r"\d+ of \d+ True", told[2])
    assert int(told[3]) < names["part"].trainable < names["part"].total
    assert names["trained"].curve["validation_loss"].dropna().iloc[0] > names["trained"].curve["loss"].min()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_what_takes_longer_runs_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"ck": ck}
    longer = re.findall(r"<!-- slow: [^>]* -->\n```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len(longer) == 3 and "<!-- not run" not in PAGE[: PAGE.index(longer[-1])]
    folders = []
    for example in longer:
        exec(example, names)
        folders.append(names["trained"].folder)
    assert len(set(folders)) == 3 and all((folder / "curve.csv").exists() for folder in folders)


def test_presets_roles_and_defaults_are_as_told():
    assert set(re.findall(r"^\| `([a-z-]+)` \| .* \| .* \|$", PAGE, flags=re.MULTILINE)) == set(PRESETS)
    text = " ".join(PAGE.split())
    assert f"`{' '.join(ROLES)}`" in text
    assert all(f"`{group}`" in PAGE for group in GROUPS)
    assert Recipe().loss_on == "chain" and Recipe().text == "plain" and Recipe().layout == "pad"
    assert PRESETS["elicitation"].evaluate_every == 20 and PRESETS["elicitation"].warmup == 0.05
    assert PRESETS["elicitation"].text == PRESETS["freeze"].text == "chat"
