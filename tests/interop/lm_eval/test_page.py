"""What the page on lm-eval says is so."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from circuitkit import cli
from circuitkit.interop.lm_eval.arguments import OPERATIONS, interventions_of
from circuitkit.interop.lm_eval.configurations import configuration_of, source_of
from circuitkit.interop.lm_eval.outcome import FAILURES
from circuitkit.interop.lm_eval.running import TASKS

PAGE = (Path(__file__).parents[3] / "docs" / "lm_eval.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for example in blocks("python"):
        exec(example, names)
    before, after = (
        names[each].over_seeds(names["task"].name.replace("/", "_"), "headline") for each in ("found", "without")
    )
    assert before.mean > after.mean and before.standard_error > 0
    assert names["both"].pooled().n == 2
    assert (tmp_path / "whole" / "table.csv").exists()
    assert 0 <= float(capsys.readouterr().out.split()[-1]) <= 1


def test_the_models_arguments_are_understood():
    (command,) = [each for each in blocks("bash") if each.startswith("python")]
    words = shlex.split(command.replace("\\\n", " "))
    arguments = dict(part.split("=", 1) for part in words[words.index("--model_args") + 1].split(","))
    assert len(interventions_of(arguments)) == 2
    rows = dict(re.findall(r"^\| `(\w+)=(\S+)` \|", PAGE, flags=re.MULTILINE))
    assert tuple(rows) == OPERATIONS
    assert all(interventions_of({name: value}) for name, value in rows.items())


def test_the_commands_are_understood():
    commands = [each for each in blocks("bash") if each.startswith("circuitkit")]
    for command in commands[0].replace("\\\n", " ").splitlines():
        called, bound, _ = cli.app.parse_args(shlex.split(command)[1:], exit_on_error=False, print_error=False)
        assert callable(called)
        assert bound.arguments["harness"]


def test_the_traps_are_as_told():
    told = configuration_of("aime24", [{"Problem": "?", "Answer": 73}])
    rows = re.findall(r"^\| `(.*)` \| (yes|no) \|$", PAGE, flags=re.MULTILINE)
    assert len(rows) == 9
    for response, right in rows:
        found = told["process_results"]({"Problem": "?", "Answer": 73}, [response])
        assert found == {"exact_match": int(right == "yes")}, response


def test_data_sets_and_shares_are_those_that_there_are():
    for task in TASKS:
        assert f"`{task}`" in PAGE
        source = source_of(configuration_of(task))
        assert any(f"`{each}`" in PAGE for each in (source, source.rpartition("/")[0]))
    assert all(f"`{name}`" in PAGE for name in FAILURES)
