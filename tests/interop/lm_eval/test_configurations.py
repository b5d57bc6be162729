"""Tasks of lm-eval by their names, on data of one's own, and what its rules really accept."""

import json
import os
import random
import re
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from lm_eval.api.task import ConfigurableTask

import circuitkit as ck
from circuitkit.interop.lm_eval import HarnessError
from circuitkit.interop.lm_eval.configurations import configuration_of, in_one_order, source_of
from circuitkit.interop.lm_eval.extraction import extracted
from circuitkit.tasks.answers import harness
from circuitkit.tasks.task import Item

GPQA = "gpqa_diamond_cot_zeroshot"
QUESTIONS = [
    {
        "Question": f"Which wumpus is number {number}?",
        "Correct Answer": f"right {number}",
        "Incorrect Answer 1": f"wrong {number} a",
        "Incorrect Answer 2": f"wrong {number} b",
        "Incorrect Answer 3": f"wrong {number} c",
    }
    for number in range(12)
]


def made(told: dict[str, Any]) -> ConfigurableTask:
    return ConfigurableTask(config=dict(told))


def test_the_hub_is_where_tasks_come_from_if_nothing_else_is_said():
    assert source_of(configuration_of("aime24")) == "Maxwell-Jia/AIME_2024"
    assert source_of(configuration_of("aime25")) == "math-ai/aime25"
    assert source_of(configuration_of(GPQA)) == "Idavidrein/gpqa/gpqa_diamond"


def test_data_of_ones_own_has_the_fields_of_the_task_in_any_case(tmp_path: Path):
    (tmp_path / "own.jsonl").write_text(json.dumps({"id": 60, "problem": "1 + 1?", "answer": "2"}) + "\n")
    task = made(configuration_of("aime24", tmp_path / "own.jsonl"))
    (document,) = task.test_docs()
    assert task.doc_to_text(document) == "Question: 1 + 1?\nAnswer:"
    assert str(task.doc_to_target(document)) == "2"
    assert task.process_results(document, [" 2"]) == {"exact_match": 1}


def test_data_without_a_field_is_an_error_that_names_the_line(tmp_path: Path):
    path = tmp_path / "own.jsonl"
    path.write_text('{"problem": "1 + 1?", "answer": "2"}\n{"problem": "1 + 2?"}\n')
    with pytest.raises(
        HarnessError, match=r"own\.jsonl, line 2: aime24 asks for the field 'Answer'; there are problem"
    ):
        configuration_of("aime24", path)
    without = [{key: value for key, value in row.items() if key != "Correct Answer"} for row in QUESTIONS]
    with pytest.raises(HarnessError, match="has no field 'Correct Answer'"):
        made(in_one_order(configuration_of(GPQA, without), 0))


def test_exemplars_out_of_ones_own_data_are_never_the_question_that_is_asked():
    rows = [{"question": f"What is {number}?", "answer": f"#### {number}"} for number in range(6)]
    task = made(configuration_of("gsm8k", rows))
    task.set_fewshot_seed(seed=1234)
    assert len(list(task.eval_docs)) == 6
    for document in task.eval_docs:
        prompt = task.fewshot_context(document, 5)
        assert [prompt.count(row["question"]) for row in rows] == [1] * 6
        assert prompt.endswith(f"Question: {document['question']}\nAnswer:")
    with pytest.raises(HarnessError, match=r"gsm8k shows 5 exemplars before each question.* 5 questions are too few"):
        configuration_of("gsm8k", rows[:5])


def test_a_task_that_is_not_there_or_is_several_is_named():
    with pytest.raises(HarnessError, match="there is no task file"):
        configuration_of("nowhere.yaml")
    with pytest.raises(HarnessError, match="is a group of tasks"):
        configuration_of({"group": "several"})
    with pytest.raises(HarnessError, match="asks each question 4 times"):
        configuration_of({**configuration_of("aime24"), "repeats": 4})


@pytest.mark.slow
def test_a_task_that_lm_eval_does_not_have_is_named():
    with pytest.raises(HarnessError, match="lm-eval has no task 'aime23'"):
        configuration_of("aime23")
    assert configuration_of("hendrycks_math500")["task"] == "hendrycks_math500"


# GPQA's answers


def shown_and_right(task: ConfigurableTask) -> list[tuple[str, str]]:
    """Of each document as it is when it is asked, the right letter's text; and of each as it is when it is judged."""
    asked, judged = list(task.validation_docs()), list(task.validation_docs())
    texts = []
    for shown, told in zip(asked, judged, strict=True):
        letter = re.fullmatch(r"\(([A-D])\)", told["answer"])
        assert letter is not None
        found = re.search(rf"\({letter[1]}\) (.*)", task.doc_to_text(shown))
        assert found is not None
        texts.append((found[1], told["Correct Answer"]))
    return texts


def test_the_letter_that_is_right_is_that_of_the_answer_that_was_shown():
    mine = shown_and_right(made(in_one_order(configuration_of(GPQA, QUESTIONS), 0)))
    assert all(shown == right for shown, right in mine)


def test_lm_eval_itself_shuffles_anew_for_the_judge_where_nothing_is_cached():
    random.seed(0)
    theirs = shown_and_right(made(configuration_of(GPQA, QUESTIONS)))
    assert not all(shown == right for shown, right in theirs)


def test_the_order_is_that_of_lm_evals_first_look_and_of_the_seed_alone():
    told = configuration_of(GPQA, QUESTIONS)
    random.seed(0)
    first = [row["answer"] for row in told["process_docs"](Dataset.from_list(QUESTIONS))]
    orders = []
    for seed in (0, 0, 1):
        random.random()
        orders.append([row["answer"] for row in made(in_one_order(told, seed)).validation_docs()])
    assert orders[0] == orders[1] == first
    assert orders[2] != first
    state = random.getstate()
    made(in_one_order(told, 3))
    assert random.getstate() == state


def test_what_gpqas_two_filters_read():
    task = made(in_one_order(configuration_of(GPQA, QUESTIONS), 0))
    document = task.validation_docs()[0]
    wrong = next(f"({letter})" for letter in "ABCD" if f"({letter})" != document["answer"])
    said = {
        "The answer is (B).": ("(B)", "(B)"),
        f"It is {document['answer']} and not {wrong}": ("[invalid]", wrong),
        f"I say {document['Correct Answer']}": ("[invalid]", document["answer"]),
        "Answer: C": ("[invalid]", "(C)"),
        "I do not know": ("[invalid]", "[invalid]"),
        # The first "The answer is", and the last letter in parentheses.
        "The answer is (A) no. The answer is (D).": ("(A) no. The answer is (D)", "(D)"),
    }
    filters = {each.name: each for each in task._filters}
    for response, expected in said.items():
        found = []
        for name in ("strict-match", "flexible-extract"):
            resps: Any = [[response]]
            for part in filters[name].filters:
                resps = part().apply(resps, [document])
            found.append(next(iter(resps)))
        assert tuple(found) == expected, response


# AIME's strings

SAID = {
    r"So it is \boxed{73}.": 1,
    "Then $n = 73$": 1,
    " 73": 1,
    "73\n": 1,
    r"\boxed{073}": 0,
    "073": 0,
    "The answer is 73.": 0,
    "73.": 0,
    r"\boxed{73.0}": 0,
    r"First \boxed{73}, then \boxed{74}": 0,
    r"$x$ and so $73$": 0,
    r"\fbox{73}": 0,
    r"\boxed{73": 0,
    "": 0,
}


@pytest.mark.parametrize("response", SAID)
def test_what_the_harness_accepts_as_73(response: str):
    told = configuration_of("aime24", [{"Problem": "?", "Answer": 73}])
    found = told["process_results"]({"Problem": "?", "Answer": 73}, [response])
    assert found == {"exact_match": SAID[response]}
    # circuitkit's own judge of that name says the same.
    assert harness.aime(Item("0", "?", "73"), response).correct == bool(SAID[response])


@pytest.mark.skipif("CIRCUITKIT_DATA" not in os.environ, reason="CIRCUITKIT_DATA is not set: it has AIME's problems")
@pytest.mark.parametrize(("name", "files"), [("aime24", ["2024"]), ("aime25", ["2025-I", "2025-II"])])
def test_aimes_problems_are_asked_and_judged_as_by_circuitkits_own_task(name: str, files: list[str]):
    folder = Path(os.environ["CIRCUITKIT_DATA"]) / "aime"
    task = made(configuration_of(name, [folder / f"test{each}.jsonl" for each in files]))
    own = ck.tasks.load(name)
    documents = list(task.eval_docs)
    assert [task.doc_to_text(each) for each in documents] == [own.prompt(item) for item in own.items]
    assert len(documents) == 30
    for document, item in zip(documents, own.items, strict=True):
        for said in (rf"\boxed{{{item.gold}}}", rf"\boxed{{0{item.gold}}}", f"The answer is {item.gold}.", "$1$"):
            right = task.process_results(document, [said])["exact_match"]
            assert bool(right) == own.judges["harness"](item, said).correct == said.startswith(rf"\boxed{{{item.gold}")


def test_a_response_without_an_answer_is_told_from_a_wrong_answer():
    told = configuration_of("aime24", [{"Problem": "?", "Answer": 73}])
    read = {
        response: extracted(told, {"filter": "none", "filtered_resps": [response]})
        for response in (r"\boxed{74}", r"\boxed{073}", "74", "The answer is 73.", r"\boxed{x + 1}", "")
    }
    assert read == {
        r"\boxed{74}": True,
        r"\boxed{073}": True,
        "74": True,
        "The answer is 73.": False,
        r"\boxed{x + 1}": False,
        "": False,
    }
    gpqa = configuration_of(GPQA, QUESTIONS)
    assert extracted(gpqa, {"filter": "strict-match", "filtered_resps": ["[invalid]"]}) is False
    assert extracted(gpqa, {"filter": "strict-match", "filtered_resps": ["(A)"]}) is True
    assert extracted({"filter_list": None}, {"filter": "none", "filtered_resps": ["x"]}) is None
