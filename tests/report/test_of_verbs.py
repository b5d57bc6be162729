"""Folders as the verbs themselves leave them: each makes a page that is small, says what was found, and runs again."""

import pytest

from circuitkit.report import read
from circuitkit.report.embedding import MOST_BYTES
from shell import status

MODEL = "deductor-5k"


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("demo", MODEL, "--n", "8"),
        ("patch", MODEL, "--n", "6", "--over", "z"),
        ("ablate", "effects", MODEL, "--n", "6"),
        ("circuit", "find", MODEL, "--n", "4", "--top", "20", "--resamples", "5", "--controls", "3"),
        ("sfn", "delta", "deductor-5k-base", MODEL),
        ("sfn", "destroy", MODEL, "--modules", "o_proj"),
        ("eval", MODEL, "--task", "prontoqa/implication_elimination/1", "--shots", "0", "--limit", "4"),
    ],
    ids=lambda words: "-".join(words[:2]),
)
def test_the_folder_of_a_verb_makes_a_page(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["circuitkit", *words, "--out", "out"])
    assert status(*words, "--out", "out") == 0
    report = read("out", progress=False)
    assert report.sentences and report.sections
    assert len(report.html.encode()) < MOST_BYTES
    assert f"circuitkit {' '.join(words)} --out out" in report.html
    assert report.html == read("out", progress=False).html
