"""What the page on tasks says is so."""

import re
from pathlib import Path
from typing import Any

import pytest

import circuitkit as ck
from circuitkit.tasks import aime, amc, csqa, gsm8k, math500
from circuitkit.tasks.task import TaskError

PAGE = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    Path("colours.toml").write_text(blocks("toml")[0])
    Path("colours.jsonl").write_text(blocks("json")[0])
    *examples, sums = blocks("python")
    names: dict[str, Any] = {}
    for example in examples:
        exec(example, names)
    assert names["shots"] == 3
    assert names["task"].name == "colours"
    assert capsys.readouterr().out.endswith("Judgement(correct=True, said='b')\n")
    Path("sums.py").write_text(sums)
    task = ck.tasks.load("sums.py", n=20)
    assert [item.gold for item in task.items] == [str(2 * n) for n in range(20)]
    assert task.judges["first word"](task.items[3], " 6 apples").correct


def test_every_field_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('nmae = "a"\nname = "a"\ndata = "a.csv"\nprompt = ""\ngold = ""\nanswer = "exact"')
    with pytest.raises(TaskError) as raised:
        ck.tasks.load(tmp_path / "a.toml")
    fields = str(raised.value).partition("there are ")[2].split(", ")
    assert {"name", "choices", "separator"} <= set(fields)
    assert [name for name in fields if name not in PAGE] == []


def test_every_task_has_its_row() -> None:
    named = set(re.findall(r"`([\w/]+)`", "".join(re.findall(r"^\| (`.*?) \|", PAGE, flags=re.MULTILINE))))
    assert {name for name in ck.tasks.names() if "/" not in name} | {"prontoqa/RULE/HOPS"} <= named


def test_files_and_data_sets_are_those_that_are_read() -> None:
    files = [csqa.FILE, gsm8k.FILE, amc.FILE, math500.FILE, *(file for year in aime.FILES.values() for file in year)]
    hubs = [csqa.HUB, gsm8k.HUB, amc.HUB, math500.HUB, *aime.HUBS.values()]
    assert [told for told in [*files, *(hub.id for hub in hubs)] if f"`{told}`" not in PAGE] == []
