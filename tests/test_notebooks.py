"""The notebooks of the documentation run, print what is committed, and are safe to commit."""

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from notebooks import FOLDER, executed, printed

NAMES = ("a_threshold_of_your_own", "finding_and_cutting_a_circuit", "patching_a_deduction", "who_reasons_in_this_pair")


def test_the_notebooks_are_those_that_are_told_of() -> None:
    assert tuple(sorted(path.stem for path in FOLDER.glob("*.ipynb"))) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_committed_with_outputs_that_are_small_and_name_no_folder(name: str) -> None:
    path = FOLDER / f"{name}.ipynb"
    outputs = [output for cell in _read(path).cells for output in cell.get("outputs", [])]

    assert path.stat().st_size < 400_000
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 1
    assert sum("text/html" in output.get("data", {}) for output in outputs) >= 2
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"/(home|root|Users|work|tmp|opt)/|<script|\"stderr\"", text)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_and_prints_what_is_committed(name: str, tmp_path: Path) -> None:
    path = FOLDER / f"{name}.ipynb"
    committed = printed(_read(path))

    made = printed(executed(path, tmp_path))

    assert len(committed) >= 5
    # The words are the same, and so are the numbers up to rounding on another processor.
    assert [_words(line) for line in made] == [_words(line) for line in committed]
    assert _numbers(made) == pytest.approx(_numbers(committed), rel=0.05, abs=0.05)


def _read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


_NUMBER = r"-?\d+(?:\.\d+)?"


def _words(line: str) -> str:
    return re.sub(_NUMBER, "…", line)


def _numbers(lines: list[str]) -> list[float]:
    return [float(each) for line in lines for each in re.findall(_NUMBER, line)]
