"""Pages of documentation: their code is run, and their commands are understood.

What cannot be run here stands behind `<!-- not run: REASON -->`; then the names in it, the keywords of calls and the
options of commands are held against the package. Slow blocks stand behind `<!-- slow: REASON -->`. Blocks behind
`<!-- hub: ID, ID -->` are run with small models in folders of these names.
"""

import contextlib
import io
import re
import runpy
import shlex
import tomllib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from circuitkit import cli
from page_names import check_names

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
FENCED = re.compile(
    r"(?:<!-- (not run|slow|hub)(?:: ([^>]+))? -->\n)?^```(\S*)\n(.*?)^```", flags=re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        mark: "not run", "slow", "hub", or nothing.
        reason: of the mark; of "hub" the models, by their ids.
        kind: the language.
        text: what stands in it.
    """

    mark: str
    reason: str
    kind: str
    text: str

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command of a shell block, comments left out and continued lines joined."""
        if self.kind != "bash":
            return []
        lines = self.text.replace("\\\n", " ").splitlines()
        return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


class Page:
    """A page's fenced blocks."""

    def __init__(self, name: str) -> None:
        self.text = (DOCS / name).read_text(encoding="utf-8")
        self.all = [Block(*found) for found in FENCED.findall(self.text)]
        self.blocks = [(block.kind, block.text) for block in self.all]

    @property
    def commands(self) -> list[str]:
        """Each line of its bash blocks."""
        return [line for kind, text in self.blocks if kind == "bash" for line in text.splitlines()]

    @property
    def slow(self) -> bool:
        """Whether Python of it takes long."""
        return any(block.kind == "python" and block.mark in ("slow", "hub") for block in self.all)

    def stand_in(self, block: Block) -> None:
        """Put a small model where a block names one of the hub, if none is there."""
        # transformers takes seconds to import, and most pages need no model of the hub.
        from stand_ins import stand_in

        for name in block.reason.split(", ") if block.mark == "hub" else ():
            if not Path(name).exists():
                stand_in(name, self.text)

    def check_examples(self) -> int:
        """Run its Python, one block after the other, and hold what is printed against the text block below.

        Gives how many text blocks there are; each has to be printed by something.
        """
        names: dict[str, Any] = {}
        printed = 0
        for at, block in enumerate(self.all):
            if block.kind != "python":
                continue
            if block.mark == "not run":
                check_names(block.text, names)
                continue
            self.stand_in(block)
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(block.text, names)
            below = self.all[at + 1] if at + 1 < len(self.all) else None
            expected = below.text if below is not None and below.kind == "text" else ""
            assert out.getvalue().split() == expected.split()
            printed += bool(expected)
        assert printed == sum(block.kind == "text" for block in self.all)
        return printed


def check_understood(line: str) -> None:
    """A command of circuitkit's is one that its parser takes."""
    _check_parsed(cli.app, shlex.split(line)[1:])


def check_command(words: Sequence[str], *, run: bool) -> None:
    """A command of a page names what there is: verbs and options, targets of make, extras, scripts.

    Raises AssertionError for one that cannot be checked, unless its block is not run.
    """
    # A shell's variables stand for numbers and names.
    words = [re.sub(r"\$\(?\w+\)?", "1", word) for word in words]
    while words and re.fullmatch(r"\w+=.*", words[0]):
        words = words[1:]
    if words[:3] == ["python", "-m", "circuitkit.interop.lm_eval"]:
        # lm-eval's own options; the page's own test looks at them.
        return
    if "circuitkit" in words:
        # Behind srun or the like.
        _check_parsed(cli.app, words[words.index("circuitkit") + 1 :])
    elif words[:1] == ["python"] and words[1].endswith(".py"):
        _check_script(words[1], words[2:])
    elif words[:1] == ["make"]:
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert all(word in targets for word in words[1:] if "=" not in word), words
    elif words[:2] == ["pip", "install"]:
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        asked = re.findall(r"\[(\w+)\]", " ".join(words))
        assert all(extra in extras["optional-dependencies"] for extra in asked), words
    else:
        assert not run, words


def _check_script(script: str, words: Sequence[str]) -> None:
    assert (ROOT / script).exists(), script
    if script.startswith("experiments/"):
        _check_parsed(runpy.run_path(str(ROOT / script))["app"], words)
        return
    source = (ROOT / script).read_text(encoding="utf-8")
    assert all(f'"{word}"' in source for word in words if word.startswith("--")), [script, *words]


def _check_parsed(app: Any, words: Sequence[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        called, bound, _ = app.parse_args(list(words), exit_on_error=False, print_error=False)
    assert callable(called) and bound.arguments
