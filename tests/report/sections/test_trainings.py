"""Trainings: one card for all of a folder, and of the folders in it."""

import shutil

import pytest

import circuitkit as ck
from circuitkit.report import read
from circuitkit.report.sections import trainings


@pytest.mark.slow
def test_trainings_of_many_folders_make_one_table_and_the_first_are_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(trainings, "MOST_DRAWN", 1)
    pairs = [{"question": f"Max is a {word}.", "chain": f"Max is a {word}."} for word in ("wumpus", "dumpus")]
    one = tmp_path / "seeds" / "0"
    ck.train("deductor-5k-base", pairs, out=one, max_steps=2, batch_size=2, progress=False)
    (alone,) = read(one, progress=False).sections
    assert alone.title == "Training" and len(alone.stills) == 1
    assert alone.table["step"].tolist() == [1, 2]
    assert "step 2 was chosen" in alone.says[0]
    shutil.copytree(one, one.parent / "1")
    (section,) = read(tmp_path, progress=False).sections
    assert section.table["training"].tolist() == ["seeds/0", "seeds/1"]
    assert section.table["chosen"].tolist() == [2, 2]
    assert len(section.stills) == 1
    assert section.notes == ("The curves of 1 of 2 trainings are drawn; the table has all of them.",)
    assert section.says == ("2 trainings of 1 model have ended; the table has all of them.",)
