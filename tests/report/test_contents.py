"""What a folder holds is told by what is in its files; what cannot be read is refused by name."""

import shutil

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from circuitkit.report import ReportError, read
from circuitkit.report.contents import DEPTH, Contents
from report.studies import result, study, table, write_json


def kinds(contents):
    return {file.path.name: file.kind for file in contents.files}


def test_files_are_known_by_what_is_in_them(tmp_path):
    study(tmp_path)
    (tmp_path / "residual.safetensors").rename(tmp_path / "whatever.safetensors")
    (tmp_path / "provenance.json").rename(tmp_path / "told.json")
    write_json(tmp_path / "other.json", {"a": 1})
    save_file({"a": torch.ones(1)}, tmp_path / "tensors.safetensors")
    (tmp_path / ".hidden.csv").write_text("a\n1\n")
    assert kinds(Contents.of(tmp_path)) == {
        "residual.csv": "table",
        "residual.png": "figure",
        "told.json": "provenance",
        "whatever.safetensors": "result",
    }


def test_a_table_and_a_figure_of_a_result_are_not_shown_again(tmp_path, monkeypatch):
    study(tmp_path / "out")
    (tmp_path / "out" / "other.csv").write_text("a\n1\n")
    monkeypatch.chdir(tmp_path)
    assert [each.title for each in read("out", progress=False).sections] == ["Residual", "Other"]


def test_models_are_no_results_but_what_was_done_to_them_is(tmp_path):
    for name in ("model", "merged"):
        write_json(tmp_path / name / "config.json", {})
        save_file({"a": torch.ones(1)}, tmp_path / name / "model.safetensors")
    write_json(
        tmp_path / "merged" / "manifest.json", {"format": 1, "changes": [], "copied": {"tensors": 1, "bytes": 4}}
    )
    table(tmp_path)
    (part,) = Contents.of(tmp_path).parts
    assert (part.folder.name, kinds(part)) == ("merged", {"manifest.json": "manifest"})


def test_results_beside_a_models_settings_are_results(tmp_path):
    write_json(study(tmp_path) / "config.json", {})
    assert kinds(Contents.of(tmp_path))["residual.safetensors"] == "result"


def test_links_out_of_the_folder_are_not_followed_and_told(tmp_path):
    (tmp_path / "secret.txt").write_text("a key")
    table(tmp_path / "other")
    folder = table(tmp_path / "out")
    (folder / "notes.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "linked").symlink_to(tmp_path / "other")
    (folder / "again.csv").symlink_to("table.csv")
    report = read(folder, progress=False)
    assert "a key" not in report.html.partition("<main>")[2].partition("<script>")[0]
    assert [note.partition(" is a link")[0] for note in report.parts[0].notes] == ["notes.txt", "linked/"]
    assert [each.title for each in report.sections] == ["Again", "Table"]


def test_folders_are_read_so_deep_and_what_is_deeper_is_told(tmp_path):
    names = [str(level) for level in range(1, DEPTH + 1)]
    deep = tmp_path.joinpath(*names)
    table(deep)
    table(deep / "deeper")
    parts = list(Contents.of(tmp_path).walk())
    assert [part.folder.name for part in parts] == [tmp_path.name, *names]
    assert parts[-1].notes == ("What lies deeper, in deeper/, is not shown: make a report of that folder.",)


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("residual.safetensors", lambda data: data[: len(data) // 2]),
        ("provenance.json", lambda data: data[: len(data) // 2]),
        ("residual.png", lambda data: data[: len(data) // 2]),
        ("residual.csv", lambda data: b"a,b\n\xff\xfe,\n"),
    ],
)
def test_a_file_that_is_cut_short_is_named(tmp_path, name, spoil):
    study(tmp_path)
    for path in tmp_path.iterdir():
        if path.name not in (name, "provenance.json"):
            path.unlink()
    (tmp_path / name).write_bytes(spoil((tmp_path / name).read_bytes()))
    with pytest.raises(ReportError, match=f"(?s){name}.*out of the folder"):
        read(tmp_path, progress=False)


def test_a_result_whose_class_refuses_it_is_named(tmp_path):
    write_json(tmp_path / "threshold.json", {"circuitkit.threshold": 1})
    with pytest.raises(ReportError, match=r"threshold\.json cannot be read \(not a threshold"):
        read(tmp_path, progress=False)


def test_what_is_no_folder_of_results_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(ReportError, match="there is no such folder; name the folder that a command"):
        Contents.of(tmp_path / "none")
    with pytest.raises(ReportError, match=r"nothing to show.*run a study with --out"):
        Contents.of(tmp_path)
    (tmp_path / "a.csv").write_text("a\n1\n")
    with pytest.raises(ReportError, match="is a file"):
        Contents.of(tmp_path / "a.csv")
    with pytest.raises(ReportError, match="there is no such folder"):
        Contents.of(tmp_path, beside=tmp_path / "none")


def test_a_run_that_has_not_ended_is_told(tmp_path):
    (tmp_path / "responses.jsonl").write_text("{}\n")
    with pytest.raises(ReportError, match=r"nothing to show.*has not ended: run its command again"):
        Contents.of(tmp_path)
    table(tmp_path)
    assert "has not ended" in Contents.of(tmp_path).notes[0]


def test_folders_of_one_name_beside_each_other_are_told_apart(tmp_path):
    for run in ("first", "second"):
        table(tmp_path / run / "out")
    contents = Contents.of(tmp_path / "first" / "out", beside=tmp_path / "second" / "out")
    assert contents.beside is not None
    assert (contents.name, contents.beside.name) == ("first/out", "second/out")


def test_provenance_is_that_of_the_first_result_where_no_file_tells_it(tmp_path):
    result().save(tmp_path)
    assert Contents.of(tmp_path).provenance["model"] == "deductor-5k"
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    pd.DataFrame({"a": [1]}).to_csv(tmp_path / "a.csv", index=False)
    assert Contents.of(tmp_path).provenance == {}
