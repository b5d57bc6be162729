"""The tasks' questions: from the folder of data, a file, or the hub; and the prompts that ask them."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

import circuitkit as ck
from circuitkit.tasks import competitions
from circuitkit.tasks.task import Judgement, TaskError

FOLDER = Path(os.environ.get("CIRCUITKIT_DATA", ""))
needs_data = pytest.mark.skipif(
    "CIRCUITKIT_DATA" not in os.environ, reason="CIRCUITKIT_DATA names no folder with csqa/, gsm8k/ and aime/"
)

# Rows as the hub's data sets have them, of our own writing.
HUB: dict[tuple[str, str | None, str], list[dict[str, Any]]] = {
    ("commonsense_qa", None, "validation"): [
        {
            "id": "1f",
            "question": "Where is water kept?",
            "question_concept": "water",
            "choices": {"label": ["A", "B", "C", "D", "E"], "text": ["shelf", "jug", "net", "sieve", "bag"]},
            "answerKey": "B",
        }
    ],
    ("openai/gsm8k", "main", "test"): [
        {"question": "What is 600 + 600?", "answer": "It is 600 + 600 = <<600+600=1200>>1200.\n#### 1,200"}
    ],
    ("Maxwell-Jia/AIME_2024", None, "train"): [
        {"ID": "2024-II-4", "Problem": "Find $1+1$.", "Solution": "It is 2.", "Answer": 2}
    ],
    ("math-ai/aime25", None, "test"): [
        {"problem": "Find $2+2$.", "answer": "4", "id": "0"},
        {"problem": "Find $336$ degrees.", "answer": "336^\\circ", "id": "19"},
    ],
    ("math-ai/amc23", None, "test"): [{"id": 0, "question": "Find $3+3$.", "answer": "6.0", "url": "https://…"}],
    ("HuggingFaceH4/MATH-500", None, "test"): [
        {
            "problem": "Find half of $1$.",
            "solution": "It is $\\boxed{\\frac{1}{2}}$.",
            "answer": "\\frac{1}{2}",
            "subject": "Prealgebra",
            "level": 1,
            "unique_id": "test/prealgebra/1.json",
        }
    ],
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def load_dataset(name: str, config: str | None = None, *, split: str) -> datasets.Dataset:
        return datasets.Dataset.from_list(HUB[name, config, split])

    monkeypatch.delenv("CIRCUITKIT_DATA", raising=False)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)


@needs_data
@pytest.mark.parametrize(("name", "n"), [("csqa", 1221), ("gsm8k", 1319), ("aime24", 30), ("aime25", 30), ("aime", 60)])
def test_all_questions_are_there_with_their_answers(name: str, n: int) -> None:
    task = ck.tasks.load(name)
    assert len(task.items) == n
    assert all(item.gold for item in task.items)
    assert str(FOLDER) in task.source
    # A response that says the gold answer is right, one that says nothing unparseable, whoever judges.
    for item in task.items:
        said = f"So the answer is ({item.gold})." if name == "csqa" else f"The answer is {item.gold}."
        said = f"\\boxed{{{item.gold}}}" if "aime" in name else said
        for judge in task.judges.values():
            assert judge(item, said).correct
            assert judge(item, "") == Judgement(False, None)


@needs_data
def test_a_problem_of_a_contest_has_one_key_whatever_numbers_its_data_gives_it(tmp_path: Path) -> None:
    for year in (24, 25):
        task = ck.tasks.load(f"aime{year}")
        assert {item.key for item in task.items} == {
            f"20{year}-{part}-{n}" for part in ("I", "II") for n in range(1, 16)
        }
    # As a data set without parts has them: mixed, and numbered from 0.
    rows = [
        json.loads(line) | {"id": None}
        for part in ("I", "II")
        for line in (FOLDER / f"aime/test2025-{part}.jsonl").read_text(encoding="utf-8").splitlines()
    ][::-1]
    data = tmp_path / "mixed.jsonl"
    data.write_text("".join(json.dumps(row | {"id": str(n)}) + "\n" for n, row in enumerate(rows)), encoding="utf-8")
    mixed = ck.tasks.load("aime25", data=data)
    assert {item.key: item for item in mixed.items} == {item.key: item for item in task.items}


@needs_data
def test_the_papers_exemplars_give_the_papers_prompt() -> None:
    published = (FOLDER / "csqa/exemplars.txt").read_text(encoding="utf-8")
    first = json.loads((FOLDER / "csqa/dev.jsonl").read_text(encoding="utf-8").split("\n")[0])["question"]
    asked = f"Q: {first['stem']} Answer Choices: "
    for choice in first["choices"]:
        asked += f"({choice['label'].lower()}) {choice['text']}\n"
    task = ck.tasks.load("csqa")
    assert (task.shots, task.max_new_tokens, next(iter(task.judges))) == (7, 100, "paper")
    assert task.prompt(task.items[0]) == published.replace("(c)super", "(c) super") + asked
    assert task.prompt(task.items[0], 0) == asked
    assert not task.prompt(task.items[0]).endswith("A:")


@needs_data
def test_exemplars_can_be_chosen() -> None:
    own = ck.tasks.load("csqa", exemplars="built-in")
    given = ck.tasks.load("csqa", exemplars=FOLDER / "csqa/exemplars.txt", shots=3)
    assert "circuitkit's own" in own.source
    assert given.shots == 3
    assert given.exemplars == ck.tasks.load("csqa").exemplars
    assert not set(own.exemplars) & set(given.exemplars)
    # Texts of one's own are asked as they are.
    texts = ["Q: a\n(a)b\nA: the answer is (b).\n"]
    assert (mine := ck.tasks.load("csqa", exemplars=texts)).shots == 1 and mine.exemplars == tuple(texts)


def test_our_own_exemplars_have_the_papers_form(hub: None) -> None:
    csqa, gsm8k = ck.tasks.load("csqa"), ck.tasks.load("gsm8k")
    assert (len(csqa.exemplars), len(gsm8k.exemplars)) == (7, 8)
    for text in csqa.exemplars:
        question, _, answer = text.partition("A: ")
        item = ck.tasks.Item("0", question, "a")
        letters = ck.tasks.csqa.letters
        assert list(letters.choices(question)) == list("abcde")
        assert letters.paper(item, answer).said == letters.robust(item, answer).said is not None
        assert answer.endswith(").\n")
    for text in gsm8k.exemplars:
        answer = text.partition("\nA: ")[2]
        said = {judge(ck.tasks.Item("0", "…", "1"), answer).said for judge in gsm8k.judges.values()}
        assert len(said) == 1
        assert None not in said
    # Every letter is the answer of one, so that none can be taken for the usual one.
    assert {text[-4] for text in csqa.exemplars} == set("abcde")


def test_the_hubs_rows_are_read(hub: None) -> None:
    csqa = ck.tasks.load("csqa").items[0]
    assert csqa.question == "Q: Where is water kept? Answer Choices: (a) shelf\n(b) jug\n(c) net\n(d) sieve\n(e) bag\n"
    assert (csqa.key, csqa.gold) == ("1f", "b")
    gsm8k = ck.tasks.load("gsm8k")
    assert gsm8k.items[0].gold == "1200"
    assert gsm8k.items[0].groups == {"steps": 1}
    assert gsm8k.prompt(gsm8k.items[0]).endswith(".\n\nQ: What is 600 + 600?\nA: ")
    assert gsm8k.source.startswith("openai/gsm8k (main, test) on the hub")
    assert [item.key for item in ck.tasks.load("aime").items] == ["2024-II-4", "2025-0", "2025-II-5"]
    assert ck.tasks.load("aime25").items[1].groups == {"year": 2025, "part": "II"}
    assert ck.tasks.load("aime24").items[0].question == "Question: Find $1+1$.\nAnswer:"
    assert ck.tasks.load("amc").items[0].gold == "6"
    math500 = ck.tasks.load("math500", prompt=competitions.BOXED)
    assert math500.items[0].groups == {"subject": "Prealgebra", "level": 1}
    assert math500.items[0].question.startswith("Find half of $1$.\n\nPlease reason")
    assert [judge(math500.items[0], "It is $0.5$.").correct for judge in math500.judges.values()] == [True, True]


def test_the_folder_comes_before_the_hub(hub: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "amc").mkdir()
    (tmp_path / "amc/amc23.jsonl").write_text('{"id": 7, "question": "Find $5+5$.", "answer": 10}\n')
    monkeypatch.setenv("CIRCUITKIT_DATA", str(tmp_path))
    here, hubs = ck.tasks.load("amc"), ck.tasks.load("amc", data="hub")
    assert (here.items[0].key, hubs.items[0].key) == ("7", "0")
    assert here.source != hubs.source
    # What the folder does not have comes from the hub, and the task says so.
    assert "on the hub" in ck.tasks.load("math500").source
    own = ck.tasks.load("amc", data=tmp_path / "amc/amc23.jsonl")
    assert own.items == here.items


def test_where_questions_cannot_be_had_all_ways_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CIRCUITKIT_DATA", raising=False)
    with pytest.raises(TaskError, match=r"CIRCUITKIT_DATA is not set.*math500/test\.jsonl.*data=PATH"):
        ck.tasks.load("math500")
    monkeypatch.setenv("CIRCUITKIT_DATA", str(tmp_path))
    with pytest.raises(TaskError, match=r"has no aime/test2025-I\.jsonl and no aime/test2025-II\.jsonl"):
        ck.tasks.load("aime25")
    monkeypatch.setenv("CIRCUITKIT_DATA", str(tmp_path / "absent"))
    with pytest.raises(TaskError, match="is no folder"):
        ck.tasks.load("csqa")
    monkeypatch.delenv("CIRCUITKIT_DATA")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(TaskError, match=r"circuitkit\[eval\]"):
        ck.tasks.load("math500")


CSQA = {"id": "k7", "question": {"stem": "Where?", "choices": [{"label": "A", "text": "here"}]}}


@pytest.mark.parametrize(
    ("name", "row", "told"),
    [
        ("csqa", CSQA, "'k7' has no answer key"),
        ("csqa", CSQA | {"answerKey": ""}, "'k7' has no answer key"),
        ("csqa", CSQA | {"answerKey": "C"}, "'k7' has no choice 'C'"),
        ("csqa", {"id": "k7", "question": "Where?", "answerKey": "A"}, "no field 'choices.label'"),
        ("gsm8k", {"question": "1 + 1?", "answer": "It is 2."}, "'0' has no answer key"),
        ("gsm8k", {"question": "1 + 1?"}, "no field 'answer'"),
        ("aime24", {"id": 3, "problem": "Find 2.", "answer": None}, "'2024-3' has no answer key"),
        ("aime24", {"id": 3, "answer": "2"}, "no field problem or Problem"),
        ("amc", {"id": 3, "question": "Find 2.", "answer": " "}, "'3' has no answer key"),
        ("math500", {"unique_id": "a/1", "problem": "Find 2."}, "'a/1' has no answer key"),
    ],
)
def test_a_row_that_is_not_in_order_is_named(name: str, row: dict, told: str, tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text(f"\n{json.dumps(row)}\n")
    with pytest.raises(TaskError, match=told) as raised:
        ck.tasks.load(name, data=data)
    assert "rows.jsonl, line 2" in str(raised.value)


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("a.jsonl", '{"id": 1}\n{"id": ', "line 2: not JSON"),
        ("a.jsonl", "[1]\n", "line 1: not an object"),
        ("a.jsonl", "\n", "holds no questions"),
        ("a.json", '{"id": 1}', "a list of objects"),
        ("a.json", "[", "not JSON"),
        ("a.csv", "id,problem,answer\n1,Find 2.\n", "row 1: it has not as many fields"),
        ("a.txt", "Find 2.", "is read from .jsonl, .json, .csv files"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(file: str, text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text(text)
    with pytest.raises(TaskError, match=told) as raised:
        ck.tasks.load("aime24", data=tmp_path / file)
    assert file in str(raised.value)
    with pytest.raises(TaskError, match="cannot be read"):
        ck.tasks.load("aime24", data=tmp_path / "absent.jsonl")


def test_what_is_asked_for_and_not_there_is_named(hub: None, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"no task 'squad'; there are csqa, gsm8k, .*math500, prontoqa/.*\.toml"):
        ck.tasks.load("squad")
    with pytest.raises(TaskError, match="write prontoqa/RULE/HOPS"):
        ck.tasks.load("prontoqa/modus_tollens/1")
    with pytest.raises(TaskError, match="no judge 'strict'; it has paper, robust"):
        ck.tasks.load("csqa", judges=["strict"])
    with pytest.raises(TaskError, match="aime24 has no option 'shots'; it has data, prompt, judges"):
        ck.tasks.load("aime24", shots=3)
    with pytest.raises(TaskError, match="9 exemplars are wanted, and there are 7"):
        ck.tasks.load("csqa", shots=9)
    with pytest.raises(TaskError, match=r"has no \{problem\} in it"):
        ck.tasks.load("aime24", prompt="Solve it.")
    with pytest.raises(TaskError, match="the years 2024 and 2025"):
        ck.tasks.load("aime", years=[2023])
    with pytest.raises(TaskError, match="problems of one year"):
        ck.tasks.load("aime", data=tmp_path / "a.jsonl")
    with pytest.raises(TaskError, match=r"exemplars .*absent\.txt cannot be read"):
        ck.tasks.load("csqa", exemplars=tmp_path / "absent.txt")
    (tmp_path / "prose.txt").write_text("Here they are.\nQ: a\nA: b\n")
    with pytest.raises(TaskError, match=r"'Here they are\.' stands before the first line"):
        ck.tasks.load("csqa", exemplars=tmp_path / "prose.txt")
    (tmp_path / "none.txt").write_text("\n")
    with pytest.raises(TaskError, match="no line begins with 'Q:'"):
        ck.tasks.load("csqa", exemplars=tmp_path / "none.txt")


def test_prontoqa_is_loaded_by_rule_and_hops() -> None:
    task = ck.tasks.load("prontoqa/implication_elimination/2", n=3)
    assert len(task.items) == 3
    assert all(judge(item, f" {item.gold}").correct for item in task.items for judge in task.judges.values())
    assert ck.tasks.load("prontoqa/ModusPonens", n=1).items
