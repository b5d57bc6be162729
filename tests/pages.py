"""Pages of documentation: their code is run, and their commands are understood."""

import contextlib
import io
import re
import shlex
from pathlib import Path
from typing import Any

from circuitkit import cli

DOCS = Path(__file__).parents[1] / "docs"


class Page:
    """A page's fenced blocks."""

    def __init__(self, name: str) -> None:
        text = (DOCS / name).read_text(encoding="utf-8")
        self.blocks: list[tuple[str, str]] = re.findall(r"```(\w+)\n(.*?)```", text, flags=re.DOTALL)

    @property
    def commands(self) -> list[str]:
        """Each line of its bash blocks."""
        return [line for kind, text in self.blocks if kind == "bash" for line in text.splitlines()]

    def check_examples(self) -> int:
        """Run its Python, one block after the other, and hold what is printed against the text block below.

        Gives how many text blocks there are; each has to be printed by something.
        """
        names: dict[str, Any] = {}
        printed = 0
        for at, (kind, code) in enumerate(self.blocks):
            if kind != "python":
                continue
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(code, names)
            below = self.blocks[at + 1] if at + 1 < len(self.blocks) else ("", "")
            expected = below[1] if below[0] == "text" else ""
            assert out.getvalue().split() == expected.split()
            printed += bool(expected)
        assert printed == sum(kind == "text" for kind, _ in self.blocks)
        return printed


def check_understood(line: str) -> None:
    """A command of circuitkit's is one that its parser takes."""
    called, bound, _ = cli.app.parse_args(shlex.split(line)[1:], exit_on_error=False, print_error=False)
    assert callable(called) and bound.arguments
