"""A task of one's own in one file: what it says, and what is wrong with one that is not in order."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import circuitkit as ck
from circuitkit.tasks.sources import Row
from circuitkit.tasks.task import Judgement, TaskError
from circuitkit.tasks.templates import filled

CAPITALS = {
    "name": '"capitals"',
    "data": '"capitals.jsonl"',
    "prompt": '"Q: The capital of {country} is\\nA:"',
    "gold": '"{capital}"',
    "answer": '"exact"',
}
ROWS = [{"country": "France", "capital": "Paris", "n": 1}, {"country": "Italy", "capital": "Rome", "n": 2}]


def written(folder: Path, rows: list[dict[str, Any]] = ROWS, more: str = "", **fields: str | None) -> Path:
    (folder / "capitals.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = {name: value for name, value in (CAPITALS | fields).items() if value is not None}
    (folder / "capitals.toml").write_text("".join(f"{name} = {value}\n" for name, value in told.items()) + more)
    return folder / "capitals.toml"


def test_a_small_file_is_a_task(tmp_path: Path) -> None:
    task = ck.tasks.load(written(tmp_path))
    assert [(item.key, item.question, item.gold) for item in task.items] == [
        ("0", "Q: The capital of France is\nA:", "Paris"),
        ("1", "Q: The capital of Italy is\nA:", "Rome"),
    ]
    assert (task.name, task.shots, task.max_new_tokens, task.stop, task.chance) == ("capitals", 0, 256, (), None)
    assert task.source == str(tmp_path / "capitals.jsonl")
    assert task.judges["exact"](task.items[0], " Paris\n") == Judgement(True, "Paris")
    assert task.judges["exact"](task.items[0], "") == Judgement(False, None)


def test_all_fields_are_taken(tmp_path: Path) -> None:
    (tmp_path / "shots.txt").write_text("Q: The capital of Peru is\nA: Lima\n\nQ: The capital of Mali is\nA: Bamako\n")
    path = written(
        tmp_path,
        key='"{country}-{n}"',
        groups='["number"]',
        exemplars='"shots.txt"',
        separator='"\\n"',
        shots="1",
        max_new_tokens="9",
        stop='["\\n"]',
        chance="0.5",
        more='[fields]\nnumber = "n"\n',
    )
    task = ck.tasks.load(path)
    assert [(item.key, item.groups) for item in task.items] == [("France-1", {"number": 1}), ("Italy-2", {"number": 2})]
    assert task.prompt(task.items[1]) == "Q: The capital of Peru is\nA: Lima\nQ: The capital of Italy is\nA:"
    assert (task.most_shots, task.max_new_tokens, task.stop, task.chance) == (2, 9, ("\n",), 0.5)
    assert "shots.txt" in task.source


def test_a_call_may_say_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, answer='["exact", "number"]')
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("other.csv").write_text('country,capital,n\nPeru,"Lima, or so",3\n')
    for data in ("other.csv", Path("other.csv")):
        task = ck.tasks.load(path, data=data, exemplars=["Q: x\nA: y\n"], max_new_tokens=3, judges=["number"])
        assert [item.gold for item in task.items] == ["Lima, or so"]
        assert (task.shots, task.max_new_tokens, list(task.judges)) == (1, 3, ["number"])


@pytest.mark.parametrize(
    ("answer", "response", "said"),
    [
        ("{ regex = 'is (\\w+)' }", "is Rome, or is Paris", "Rome"),
        ("{ regex = 'is (\\w+)', take = 'last' }", "is Rome, or is Paris", "Paris"),
        ("{ regex = 'p\\w+', ignore_case = true }", "so it is PARIS", "PARIS"),
        ("{ regex = 'is (\\w+)' }", "Paris", None),
        ("{ regex = 'is (\\w*)' }", "is ", None),
    ],
)
def test_a_regular_expression_reads_the_answer(answer: str, response: str, said: str | None, tmp_path: Path) -> None:
    task = ck.tasks.load(written(tmp_path, answer=answer))
    correct = said is not None and said.lower() == "paris"
    assert task.judges["regex"](task.items[0], response) == Judgement(correct, said)


@pytest.mark.parametrize(
    "choices",
    [
        ["grass", "sky"],
        [{"label": "A", "text": "grass"}, {"label": "B", "text": "sky"}],
        {"label": ["A", "B"], "text": ["grass", "sky"]},
    ],
)
@pytest.mark.parametrize(("kind", "gold"), [("letter", "B"), ("index", 1), ("text", "sky")])
def test_choices_are_listed_and_the_right_one_found(choices: Any, kind: str, gold: Any, tmp_path: Path) -> None:
    path = written(
        tmp_path,
        [{"ask": "Which is blue?", "choices": choices, "right": gold}],
        prompt='"{ask}\\n{choices}Answer:"',
        gold='"{right}"',
        answer='"letter"',
        more=f'[choices]\neach = "{{LETTER}}. {{text}}\\n"\ngold = "{kind}"\n',
    )
    task = ck.tasks.load(path)
    assert task.items[0].question == "Which is blue?\nA. grass\nB. sky\nAnswer:"
    assert task.judges["letter"](task.items[0], " B. sky") == Judgement(True, "b")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        *(({name: None}, f"'{name}' is missing") for name in CAPITALS),
        ({"promt": '"x"'}, "'promt' is unknown; there are name"),
        ({"shots": '"two"'}, "'shots' must be a whole number, and is 'two'"),
        ({"shots": "true"}, "'shots' must be a whole number"),
        ({"shots": "2"}, "2 exemplars are wanted, and there are 0"),
        ({"stop": "[1]"}, "'stop' must be a list of texts"),
        ({"chance": "20"}, "chance between 0 and 1"),
        ({"max_new_tokens": "0"}, "max_new_tokens is 1 or more"),
        ({"answer": '"word"'}, "'word' is no way of reading an answer; there are letter, number, math, exact"),
        ({"answer": '["exact", "exact"]'}, "'exact' twice"),
        ({"answer": "{ regex = '(' }"}, "no regular expression"),
        ({"answer": "{ regex = 'a', take = 'all' }"}, 'take is "first" or "last"'),
        ({"answer": "{ regex = 'a', flags = 'i' }"}, r"in \[answer\], the field 'flags' is unknown"),
        ({"data": '"owner/capitals"'}, "needs a split"),
        ({"data": '"absent.jsonl"'}, r"absent\.jsonl cannot be read"),
        ({"exemplars": '"absent.txt"'}, r"absent\.txt cannot be read"),
        ({"exemplars": '"x.txt"', "prompt": '"{country}:"'}, "give them as a list"),
        ({"gold": '"{capitol}"'}, r"capitals\.jsonl, line 1: there is no field 'capitol'; it has country, capital, n"),
        ({"prompt": '"{country.name}"'}, "line 1: there is no field 'country.name'"),
        ({"key": '"same"'}, "two questions are called 'same'"),
        ({"answer": '"letter"'}, "shows no choice 'Paris'"),
        ({"more": "[fields]\ncountry = 3\n"}, "its values are texts"),
        ({"more": '[choices]\nfeild = "x"\n'}, r"in \[choices\], the field 'feild' is unknown"),
        ({"more": '[choices]\nfield = "capital"\n'}, "line 1: the field 'capital' holds no list of up to 26 choices"),
    ],
)
def test_a_file_that_is_not_in_order_is_named(fields: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=told) as raised:
        ck.tasks.load(written(tmp_path, **fields))
    assert str(tmp_path / "capitals.toml") in str(raised.value)


@pytest.mark.parametrize(
    ("second", "told"),
    [
        ({"country": "Italy"}, "there is no field 'capital'"),
        ({"country": "Italy", "capital": None}, "the field 'capital' is empty"),
        ({"country": "Italy", "capital": ""}, "question '1' has no answer key"),
        ({"country": "Italy", "capital": {"now": "Rome"}}, r"holds a dict, and no text or number: .* capital\.now"),
    ],
)
def test_a_row_that_is_not_in_order_is_named(second: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=told) as raised:
        ck.tasks.load(written(tmp_path, [ROWS[0], second]))
    assert str(raised.value).startswith(f"{tmp_path / 'capitals.toml'}: {tmp_path / 'capitals.jsonl'}, line 2: ")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"absent\.toml cannot be read: No such file"):
        ck.tasks.load(tmp_path / "absent.toml")
    (tmp_path / "a.toml").write_text("name = \n")
    with pytest.raises(TaskError, match=r"a\.toml is not TOML"):
        ck.tasks.load(tmp_path / "a.toml")
    (tmp_path / "a.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(TaskError, match=r"a\.toml cannot be read"):
        ck.tasks.load(tmp_path / "a.toml")
    with pytest.raises(TaskError, match="no option 'seed'"):
        ck.tasks.load(written(tmp_path), seed=1)


def test_a_data_set_of_the_hub_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked = []

    def load_dataset(name: str, config: str | None = None, *, split: str) -> datasets.Dataset:
        asked.append((name, config, split))
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    task = ck.tasks.load(written(tmp_path, data='"owner/capitals"', config='"main"', split='"test"'))
    assert asked == [("owner/capitals", "main", "test")]
    assert [item.gold for item in task.items] == ["Paris", "Rome"]


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("", r"has no function task\(\)"),
        ("task = 3", r"has no function task\(\)"),
        ("1 / 0", "cannot be run: ZeroDivisionError"),
        ("def task(n): return n", "does not take these options: missing"),
        ("def task(): return 3", "returns a int, and no circuitkit Task"),
    ],
)
def test_a_python_file_that_is_not_in_order_is_named(code: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(code)
    with pytest.raises(TaskError, match=told) as raised:
        ck.tasks.load(tmp_path / "own.py")
    assert str(tmp_path / "own.py") in str(raised.value)
    with pytest.raises(TaskError, match="there is no file"):
        ck.tasks.load(tmp_path / "absent.py")


@given(st.text(alphabet=st.characters(exclude_characters="{}")), st.text())
def test_a_template_changes_nothing_but_its_fields(around: str, value: str) -> None:
    row = Row("a.jsonl, line 1", 0, {"x": value})
    assert filled(f"{around}{{x}}{around}\\boxed{{}}", row, {}) == f"{around}{value}{around}\\boxed{{}}"
    assert filled(f"{{{{x}}}}{around}", row, {}) == f"{{x}}{around}"
