"""`circuitkit report`: a folder of results as one page, from the shell."""

import webbrowser

import pytest

from report.studies import table
from shell import status


def test_a_page_is_written_into_the_folder_and_named(tmp_path, capsys):
    assert status("report", table(tmp_path)) == 0
    told = capsys.readouterr()
    assert told.out.startswith(f"{tmp_path / 'report.html'} (") and "MB)" in told.out
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_two_folders_make_one_page_elsewhere_that_opens(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    base, post, page = table(tmp_path / "base"), table(tmp_path / "post"), tmp_path / "both.html"
    assert status("report", base, "--beside", post, "--out", page, "--open", "--no-progress") == 0
    assert opened == [page.as_uri()]
    assert not (base / "report.html").exists()
    assert "post/table.csv" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["none"], "there is no such folder; name the folder that a command of circuitkit wrote with --out"),
        (["empty"], "there is nothing to show in it"),
        (["full", "--out", "page.pdf"], "a report is one page, FILE.html"),
        (["full", "--beside", "none"], "none: there is no such folder"),
    ],
)
def test_what_cannot_be_shown_is_told_in_one_line(tmp_path, monkeypatch, capsys, words, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    table(tmp_path / "full")
    assert status("report", *words) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("circuitkit: ") and told in said
