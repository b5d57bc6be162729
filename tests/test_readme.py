"""The README's example and the demo's sentences are what is printed."""

import contextlib
import io
import re
from pathlib import Path

import circuitkit as ck
from circuitkit.commands.prompts import pairs_of
from circuitkit.demo import demonstrate

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)


def block_after(language: str, start: str) -> tuple[str, str]:
    """A code block that begins with some text, and the block behind it."""
    at = next(i for i, (kind, text) in enumerate(BLOCKS) if kind == language and text.startswith(start))
    return BLOCKS[at][1], BLOCKS[at + 1][1] if at + 1 < len(BLOCKS) else ""


def test_the_example_prints_what_stands_below_it():
    code, printed = block_after("python", "import circuitkit")
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(code, {})
    assert out.getvalue().split() == printed.split()


def test_the_demo_says_what_is_quoted(tmp_path):
    quoted, _ = block_after("text", "deductor-1m prefers")
    model = ck.load("deductor-1m")
    findings = demonstrate(model, pairs_of(model, None, 48), tmp_path, progress=False)
    assert "\n".join(findings.sentences()).startswith(quoted.strip())
    assert len(README.splitlines()) < 150
