"""Tables of levels: counts of all, some responses of each level, kept and read again."""

from __future__ import annotations

import pytest

from circuitkit import statistics
from circuitkit.sfn import Calibration, Condition, LevelError, Levels, LevelTable
from circuitkit.sfn.response_levels.answers import Answer
from circuitkit.sfn.response_levels.evidence import Evidence
from circuitkit.sfn.response_levels.outcome import Graded

BORDERS = Calibration("toy", 4, 0.9, 0.1, 0.5, 0.1, 0.6, 0.2, 0.9, 0.1, 0.2)


def levels(given: str) -> Levels:
    """Responses of the levels that are written here, 1 to 4."""
    names = ("I", "II", "III", "IV")
    evidence = Evidence(3, 0.0, 0.1, -1.0, 0.8, 0.4, 0.5, 0.5, 0.5)
    graded = []
    for i, each in enumerate(given):
        answer = Answer(str(i), 0, 0, "Q?", "Q?", f" said {i}", True, each == "4", True)
        graded.append(Graded(answer, evidence, names[int(each) - 1], "so", 0.5))
    return Levels("toy", tuple(graded), BORDERS)


def table(*given: str) -> LevelTable:
    return LevelTable("merges", [Condition.of({"set": f"m{i}", "n": i}, levels(each)) for i, each in enumerate(given)])


def test_counts_are_of_all_responses_and_a_few_of_each_level_are_kept():
    made = table("11112234", "4444")
    assert made.groups == ("set", "n")
    assert made.frame[["I", "II", "III", "IV", "n"]].values.tolist() == [[4, 2, 1, 1, 8], [0, 0, 0, 4, 4]]
    assert made.frame["right"].tolist() == [1 / 8, 1.0]
    assert tuple(made.frame.loc[0, ["low", "high"]]) == statistics.wilson(1, 8)
    assert [each.answer.text for each in made.conditions[0].kept] == [f" said {i}" for i in (0, 1, 2, 4, 5, 6, 7)]


def test_a_persons_level_counts():
    found = levels("11").overrule("0", "III", "it is on the task")
    assert Condition.of({}, found).counts == {"I": 1, "II": 0, "III": 1, "IV": 0}


def test_it_is_saved_and_read_again(tmp_path):
    made = table("1234", "4")
    path = made.save(tmp_path)
    again = LevelTable.load(tmp_path)
    assert path.name == "level_table.json" and again.conditions == made.conditions
    assert again.frame.equals(made.frame) and LevelTable.load(path).title == "merges"


@pytest.mark.parametrize("spoil", [lambda text: text[: len(text) // 2], lambda text: text.replace('"IV"', '"V"')])
def test_a_spoiled_file_is_named(tmp_path, spoil):
    path = table("14").save(tmp_path / "some.json")
    path.write_text(spoil(path.read_text()))
    with pytest.raises(LevelError, match=r"some\.json"):
        LevelTable.load(path)


def test_what_makes_no_table_is_refused():
    with pytest.raises(LevelError, match="needs a condition"):
        LevelTable("none", [])
    with pytest.raises(LevelError, match="told apart by the same names"):
        LevelTable("two", [Condition.of({"a": 1}, levels("1")), Condition.of({"b": 1}, levels("1"))])
    with pytest.raises(LevelError, match="cannot be kept"):
        Condition.of({}, levels("1"), kept=-1)
