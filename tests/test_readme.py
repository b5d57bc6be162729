"""The README's examples are what is printed, and its commands are understood (the demo's words: shipped models)."""

import contextlib
import io
import re
import runpy
import shlex
import warnings
from pathlib import Path

import pytest

from circuitkit import cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)
EXAMPLES = [
    (code, BLOCKS[at + 1][1]) for at, (kind, code) in enumerate(BLOCKS) if kind == "python" and at + 1 < len(BLOCKS)
]
COMMANDS = [
    shlex.split(line, comments=True)
    for kind, text in BLOCKS
    if kind == "bash"
    for line in text.splitlines()
    if line.startswith(("circuitkit", "python"))
]


@pytest.mark.parametrize(("code", "printed"), EXAMPLES)
def test_the_example_prints_what_stands_below_it(code: str, printed: str):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(code, {})
    assert out.getvalue().split() == printed.split()


def test_the_readme_is_short():
    assert len(README.splitlines()) < 150


@pytest.mark.parametrize("words", COMMANDS, ids=shlex.join)
def test_the_command_is_understood(words: list[str], monkeypatch: pytest.MonkeyPatch):
    if words[0] == "circuitkit":
        app, given = cli.app, words[1:]
    else:
        monkeypatch.syspath_prepend(str(ROOT / "experiments"))
        app, given = runpy.run_path(str(ROOT / words[1]))["app"], words[2:]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        called, bound, _ = app.parse_args(given, exit_on_error=False, print_error=False)
    assert callable(called)
    assert bound.arguments


@pytest.mark.slow
@pytest.mark.parametrize("words", [words for words in COMMANDS if "deductor" in words[2] + words[3]], ids=shlex.join)
def test_the_command_runs(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        cli.main(words[1:])
    assert ended.value.code == 0
    assert any(path.suffix in (".csv", ".safetensors") for path in (tmp_path / words[-1]).iterdir())
