"""What `--help` shows is so: its examples are understood, and what it calls a default is one."""

import importlib
import re
import shlex

import docstring_parser
import pytest
from cyclopts import App

from circuitkit import cli
from circuitkit.commands.train.options import Settings
from circuitkit.training import PRESETS, Recipe
from shell import status


@pytest.mark.parametrize("verb", ["ablate", "attention", "circuit", "eval", "patch", "sfn", "train"])
def test_examples_are_shown_and_understood(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    app: App = getattr(importlib.import_module(f"circuitkit.commands.{verb}"), verb)
    # What stands far behind a command says what it does.
    written = re.sub(r"\\\n\s*", "", app.help_epilogue or "")
    commands = re.findall(r"^circuitkit (?:\S| (?! ))*", written, flags=re.MULTILINE)
    assert status(verb, "--help") == 0
    shown = capsys.readouterr().out.split()
    for command in commands:
        words = shlex.split(command)[1:]
        called, bound, _ = cli.app.parse_args(words, exit_on_error=False, print_error=False)
        assert callable(called) and bound.arguments
        assert set(command.split()) <= set(shown)
    assert commands


def test_defaults_of_training_are_those_of_a_recipe_without_a_preset() -> None:
    told = {each.arg_name: each.description or "" for each in docstring_parser.parse_from_object(Settings).params}
    stated = {
        name: found[1] for name, text in told.items() if (found := re.search(r"([\w.-]+)\s+without\s+a\s+", text))
    }
    recipe = Recipe()
    assert len(stated) > 15
    for name, value in stated.items():
        usual = getattr(recipe, name)
        last = usual[-1] if isinstance(usual, tuple) else usual
        assert type(last)(value) == last, name


def test_every_preset_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert status("train", "--help") == 0
    shown = {word.strip(",;") for word in capsys.readouterr().out.split()}
    assert set(PRESETS) <= shown
