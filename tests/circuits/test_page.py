"""What docs/circuits.md shows is what its code prints, and its commands are understood."""

from pathlib import Path

import pytest

from pages import Page, check_understood

PAGE = Page("circuits.md")


def test_every_example_prints_what_stands_below_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert PAGE.check_examples() > 5


@pytest.mark.parametrize("line", PAGE.commands)
def test_the_command_is_understood(line: str) -> None:
    check_understood(line)
