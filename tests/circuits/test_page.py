"""What docs/circuits.md shows is what its code prints, and its commands are understood."""

import contextlib
import io
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from circuitkit import cli

PAGE = (Path(__file__).parents[2] / "docs" / "circuits.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, flags=re.DOTALL)
COMMANDS = [line for kind, text in BLOCKS if kind == "bash" for line in text.splitlines()]


def test_every_example_prints_what_stands_below_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    printed = 0
    for at, (kind, code) in enumerate(BLOCKS):
        if kind != "python":
            continue
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(code, names)
        below = BLOCKS[at + 1][1] if at + 1 < len(BLOCKS) and BLOCKS[at + 1][0] == "text" else ""
        assert out.getvalue().split() == below.split()
        printed += bool(below)
    assert printed == sum(kind == "text" for kind, _ in BLOCKS) >= 6


@pytest.mark.parametrize("line", COMMANDS)
def test_the_command_is_understood(line: str) -> None:
    called, bound, _ = cli.app.parse_args(shlex.split(line)[1:], exit_on_error=False, print_error=False)
    assert callable(called) and bound.arguments
