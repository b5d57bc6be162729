"""Every page's code is run here or by a test of its own, or says why it is not; every command names what there is."""

import importlib.util
import shlex
from pathlib import Path
from typing import Any

import pytest

from circuitkit import cli
from page_names import check_names
from pages import DOCS, ROOT, Page, check_command

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
    for block in Page("first_hour.md").all:
        if block.mark == "not run":
            continue
        if block.kind == "python":
            exec(block.text, names)
        for words in block.commands:
            with pytest.raises(SystemExit) as ended:
                cli.main(words[1:])
            assert ended.value.code == 0, words
    for written in ("demo/report.html", "patched/report.html", "patched/ablated"):
        assert (tmp_path / written).exists()


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
