"""Every page's code is run here or by a test of its own, or says why it is not; every command names what there is.

Commands of circuitkit's are run as well, unless their block says why not; those of scripts in `experiments` and
`benchmarks` are parsed alone.
"""

import importlib.util
import re
import runpy
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from page_names import check_names
from pages import DOCS, ROOT, Page, check_command
from shell import status

PAGES = sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))
OWN = {
    "attention_scores.md": "attention/test_page.py",
    "circuits.md": "circuits/test_page.py",
    "lm_eval.md": "interop/lm_eval/test_page.py",
    "sfn.md": "sfn/test_page.py",
    "sweeps.md": "studies/test_page.py",
    "tasks.md": "tasks/test_page.py",
    "thresholds.md": "thresholds/test_page.py",
    "training.md": "training/test_page.py",
}
"""Pages whose code is run by a test of their own, which looks at more than what is printed."""

WITH_CODE = [name for name in PAGES if any(block.kind == "python" for block in Page(name).all)]
WITH_COMMANDS = [name for name in PAGES if any(block.commands for block in Page(name).all)]
RUN_AS_THEY_STAND = [
    name
    for name in WITH_COMMANDS
    if name != "first_hour.md"
    and any(words[0] == "circuitkit" for block in Page(name).all if block.mark != "not run" for words in block.commands)
]
"""Pages with commands of circuitkit's that are run as they stand, one after the other; scripts' are parsed alone."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if Page(name).slow else []) for name in WITH_CODE if name not in OWN],
)
def test_the_code_runs_and_prints_what_stands_below_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Page(name).check_examples()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_first_hour_goes_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    page = Page("first_hour.md")
    for block in page.all:
        if block.mark == "not run":
            continue
        page.stand_in(block)
        if block.kind == "python":
            exec(block.text, names)
        for words in block.commands:
            assert status(*words[1:]) == 0, words
    for written in ("demo/report.html", "patched/report.html", "patched/ablated", "patched-gpt2/report.html"):
        assert (tmp_path / written).exists()


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", RUN_AS_THEY_STAND)
def test_the_commands_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page, ran = Page(name), 0
    for block in page.all:
        if block.kind == "toml":
            called = re.search(rf"`([\w.]+)`:\n\n```toml\n{re.escape(block.text)}", page.text)
            assert called is not None
            Path(called[1]).write_text(block.text, encoding="utf-8")
        page.stand_in(block)
        for words in block.commands if block.mark != "not run" else ():
            if words[0] == "circuitkit":
                assert status(*words[1:]) == 0, words
                ran += 1
            elif words[:2] == ["python", "-m"]:
                monkeypatch.setattr(sys, "argv", words[2:])
                runpy.run_module(words[2], run_name="__main__")
    assert ran


@pytest.mark.parametrize("name", OWN)
def test_a_page_with_a_test_of_its_own_has_one(name: str) -> None:
    assert name in (ROOT / "tests" / OWN[name]).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", WITH_COMMANDS)
def test_every_command_names_what_there_is(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    for block in Page(name).all:
        for words in block.commands:
            check_command(words, run=block.mark != "not run")


@pytest.mark.parametrize("name", PAGES)
def test_every_block_tells_its_language(name: str) -> None:
    kinds = {"bash", "python", "text", "toml", "json", "{toctree}", "{eval-rst}"}
    assert {block.kind for block in Page(name).all} <= kinds


def test_code_that_is_not_run_is_held_against_the_package() -> None:
    check_names("run = model.run([''], logits_at=-1)\nrun.logits\nck.patching.sweep(model, pairs, over='z')", {})
    for wrong in (
        "ck.patching.sweeps(model)",
        "ck.patching.sweep(model, pairs, above='z')",
        "model.runs()",
        "run = model.run([''])\nrun.logit",
        "from circuitkit.studies import grids",
        "ck.load('a').heads_of",
    ):
        with pytest.raises((AssertionError, ImportError, AttributeError)):
            check_names(wrong, {})


@pytest.mark.parametrize(
    "line",
    ["circuitkit patch a --overs z", "make teas", "pip install 'circuitkit[cake]'", "python benchmarks/tap.py --r"],
)
def test_commands_of_what_there_is_not_are_found(line: str) -> None:
    with pytest.raises(Exception):  # noqa: B017  # a parser's error or an assertion, whichever looks first
        check_command(shlex.split(line), run=True)


def test_a_public_name_that_no_page_tells_of_is_found() -> None:
    where = importlib.util.spec_from_file_location("public_names", DOCS / "extensions" / "public_names.py")
    assert where is not None and where.loader is not None
    extension: Any = importlib.util.module_from_spec(where)
    where.loader.exec_module(extension)
    every = extension.undocumented({})
    assert {"circuitkit.load", "circuitkit.metrics.kl", "circuitkit.tasks.prontoqa.RULES"} <= set(every)
    left = dict.fromkeys(name for name in every if name not in ("circuitkit.metrics.kl", "circuitkit.load"))
    # `ck.model.load` is the same thing, and is told of.
    assert extension.undocumented(left) == ["circuitkit.metrics.kl"]


@pytest.mark.parametrize("sweep", ["heads", "stream"])
@pytest.mark.parametrize("model", ["GPT-2 small", "Qwen2.5-0.5B", "deductor-1m"])
def test_the_times_of_other_tools_are_those_of_the_benchmarks(model: str, sweep: str) -> None:
    def figures(path: Path, row: str) -> list[str]:
        (cells,) = re.findall(rf"^\| {row} \|(.*)\|$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        return [re.sub(r" \(.*\)", "", cell.strip()) for cell in cells.split("|")]

    seen = figures(ROOT / "benchmarks" / "README.md", rf"{re.escape(model)} \| {sweep} \| 8")
    told = figures(DOCS / "peers.md", rf"{re.escape(model)}(?:'s shape)?, (?:sweep over )?(?:the )?{sweep}")
    assert told[:2] == seen[-2:]


@pytest.mark.parametrize(
    ("told", "seen"),
    [
        (
            "(2.9 where it is told to compute the last logits alone) | 3.8 |",
            "`nnsight, last logits` took 2.9 times and pyvene 3.8",
        ),
        ("reaches 0.85 to 1.14 of the speed of the floor", "| GPT-2 small | stream | 16 | 8.8 | 0.85 |"),
        (
            "0.64 of the time and 0.068 of the memory for all layers",
            "of all layers, 0.64 of the time and 0.068 of the memory",
        ),
        ("0.31 and 0.064 for the", "take 0.31 of the time and 0.064 of the memory"),
        ("0.83 of that rate", "norms and cosine at 0.83 of the rate"),
        ("0.76 of that rate", "merge of `o_proj` at 0.76 of the rate"),
        ("1.38 of their time", "| EAP-IG, 5 steps, 32,491 edges | 11.0 | 6.9 | 1.38 |"),
        ("78 forward and backward passes, to 3.0", "| TransformerLens's EAP | 15.6 a pair | 78 |"),
        ("25 to 26 (a pair at a time; 78 forward and backward passes, to 3.0)", "| EAP | 4.9 | 3.0 |"),
        ("| deductor-1m, heads | 4.6 | 2.3 | 2.2 |", "on the deductor 2.1 and 2.2 (heads)"),
        ("| deductor-1m, stream | 8.0 | 4.2 | 5.5 |", "3.9 and 5.5 (stream)"),
        ("(1.04 of a plain forward on 8 x 16 tokens", "| circuitkit | 1.038 ("),
        ("nnsight's 1.02", "| nnsight | 1.019 ("),
        ("TransformerLens's 1.09)", "| TransformerLens | 1.094 ("),
        ("1.8 times the time of eager attention", "all layers take 1.8 times as long"),
        ("2.0 times the tokens a second on GPT-2's shape", "mixed lengths | 32 | 406 | 39 | 70 | 1.98 | 1.06 |"),
        ("2.8 on deductor-1m", "deductor-1m, mixed lengths | 48 | 2,266 | 512 | 1,428 | 2.81 | 0.97 |"),
        ("1.4 where all responses are as long", "took 1.44 times the plain loop's rate"),
        ("0.97 to 1.06 of the rate", "| 1,428 | 2.81 | 0.97 |"),
        ("0.39 to 0.68 of the speed of the floor", "| deductor-1m | stream | 16 | 0.060 | 0.39 |"),
        ("0.39 to 0.68 of the speed of the floor", "| deductor-1m | heads | 0 | 0.054 | 0.68 |"),
        ("from the sixteenth token on reached 0.79", "| Qwen2.5-0.5B | stream | 16 | 69.3 | 0.79 |"),
    ],
)
def test_other_figures_of_the_comparison_are_those_of_the_benchmarks(told: str, seen: str) -> None:
    page, measured = (
        " ".join(path.read_text(encoding="utf-8").split())
        for path in (DOCS / "peers.md", ROOT / "benchmarks" / "README.md")
    )
    assert told in page and seen in measured
