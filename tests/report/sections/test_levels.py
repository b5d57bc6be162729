"""Levels on a page: counts by condition, and behind each count responses with what was measured in them."""

from __future__ import annotations

import pytest

from circuitkit.report import read
from circuitkit.report.sections import levels as section
from circuitkit.sfn import Condition, LevelTable
from sfn.response_levels.test_level_table import levels, table


def test_behind_each_count_stand_its_responses(tmp_path):
    table("1124", "44").save(tmp_path)
    (one,) = read(tmp_path, progress=False).sections
    data = one.data
    assert (one.view, one.title, data["groups"]) == ("levels", "merges", ["set", "n"])
    assert [[count["n"] for count in row["counts"]] for row in data["rows"]] == [[2, 1, 0, 1], [0, 0, 0, 2]]
    assert [(each["row"], each["level"], each["text"]) for each in data["responses"] if each["row"] == 1] == [
        (1, 3, " said 0"),
        (1, 3, " said 1"),
    ]
    assert data["responses"][0]["evidence"]["fluency"] == 0.8 and one.notes == ()


def test_a_persons_level_is_told_beside_the_criterions(tmp_path):
    levels("11").overrule("0", "III", "it is on the task", who="A. Reader").save(tmp_path)
    (one,) = read(tmp_path, progress=False).sections
    first = next(each for each in one.data["responses"] if each["key"] == "0")
    assert (first["level"], first["by"], first["criterion"], first["reason"]) == (
        2,
        "A. Reader",
        "I",
        "it is on the task",
    )
    assert one.table is not None and one.stills and one.says


@pytest.mark.parametrize("room", [0, 4000])
def test_responses_are_thinned_and_counts_are_not(tmp_path, monkeypatch, room):
    monkeypatch.setattr(section, "MOST_BYTES", room)
    LevelTable("many", [Condition.of({"set": i}, levels("1234"), kept=4) for i in range(20)]).save(tmp_path)
    (one,) = read(tmp_path, progress=False).sections
    assert (
        len(one.data["responses"]) < 80 and sum(count["n"] for row in one.data["rows"] for count in row["counts"]) == 80
    )
    assert one.notes[0].startswith(f"Of 80 responses {len(one.data['responses'])} are in the page")
