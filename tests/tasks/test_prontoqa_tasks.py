"""PrOntoQA-OOD as tasks: drawn questions, prompts from a file, and their judges."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import circuitkit as ck
from circuitkit.tasks.task import Item, TaskError

prontoqa = ck.tasks.prontoqa
QUESTION = "Q:  Rex is an angry vumpus. Prove: Rex is a vumpus.\nA:"
EXEMPLAR = "Q:  Fae is a loud impus. Prove: Fae is an impus.\nA: Fae is a loud impus. Fae is an impus.\n\n"
GOLD = "Rex is an angry vumpus. Rex is a vumpus."


@given(
    st.sampled_from(prontoqa.RULES),
    st.integers(1, 3),
    st.integers(0, 4),
    st.sampled_from(["same", "others", "ood"]),
    st.integers(0, 2**32),
)
@settings(max_examples=40)
def test_a_task_asks_what_is_drawn(rule, hops, shots, shown, seed):
    hops = 1 if rule in prontoqa.ONE_HOP_RULES else hops
    task = prontoqa.task(rule, hops, shots, 3, seed, exemplar_rules=shown)
    examples = prontoqa.generate(rule, hops, shots, 3, seed, exemplar_rules=shown)
    assert [task.prompt(item) for item in task.items] == [example.prompt for example in examples]
    assert [item.gold for item in task.items] == [example.gold for example in examples]
    for item in task.items:
        assert {name: judge(item, f" {item.gold}\n\n").correct for name, judge in task.judges.items()} == {
            "headline": True,
            "strict": True,
            "sound": True,
        }
        assert (item.groups["rule"], item.groups["hops"]) == (rule, hops)
        asked = [task.prompt(item, k) for k in range(shots + 1)]
        assert [prompt.count("Q:") for prompt in asked] == list(range(1, shots + 2))
        assert all(prompt.endswith(item.question) for prompt in asked)


def test_what_a_task_is_by_default():
    task = prontoqa.task("OrElim", n=2)
    assert (task.name, task.shots, task.most_shots) == ("prontoqa/disjunction_elimination/1", 8, 8)
    assert (task.max_new_tokens, task.stop, task.chance) == (256, ("Q:",), None)
    assert list(task.judges) == ["headline", "strict", "sound"]


def test_keys_name_one_question_each_whatever_else_is_drawn():
    """Two models are paired by key, so that another draw has to have other keys."""
    draws = [
        prontoqa.task("AndIntro", n=2),
        prontoqa.task("AndIntro", n=2, seed=1),
        prontoqa.task("AndIntro", n=2, shots=3),
        prontoqa.task("AndIntro", n=2, hops=2),
        prontoqa.task("AndIntro", n=2, width=3),
        prontoqa.task("AndIntro", n=2, exemplar_rules="ood"),
        prontoqa.task("AndIntro", n=2, exemplar_width=3),
        prontoqa.task("AndIntro", n=2, distractors="irrelevant"),
        prontoqa.task("AndIntro", n=2, mode="direct"),
    ]
    questions = {item.key: item for task in draws for item in task.items}
    assert len(questions) == 2 * len(draws)
    assert prontoqa.task("AndIntro", n=5).items[:2] == draws[0].items


def test_several_rules_and_hops_make_one_task():
    task = prontoqa.task(["ModusPonens", "AndElim"], [1, 3], shots=1, n=2)
    groups = [(item.groups["rule"], item.groups["hops"]) for item in task.items]
    rules = ("implication_elimination", "conjunction_elimination")
    assert groups == [(rule, hops) for rule in rules for hops in (1, 1, 3, 3)]
    with pytest.raises(ValueError, match="disjunction_elimination is defined for one hop only"):
        prontoqa.task(["ModusPonens", "OrElim"], [1, 3], n=1)
    with pytest.raises(TaskError, match="needs questions"):
        prontoqa.task("ModusPonens", n=0)


@pytest.mark.parametrize(
    ("response", "correct", "said"),
    [
        ("", "", None),
        (" ", "", None),
        ("Rex", "", None),
        (" Hello there. General Kenobi.", "", None),
        (" Rex is a vumpus because", "", None),
        (" Rex is", "", None),
        (" Rex is shy. Whatever.", "", "Rex is shy."),
        (" Rex is a vumpus. Rex is shy.", "headline", "Rex is a vumpus."),
        (f" {GOLD} Rex is shy.", "headline strict sound", "Rex is a vumpus."),
        ("\n\nQ: Rex is an angry vumpus. Rex is a vumpus.", "", None),
    ],
)
def test_what_the_judges_say(response, correct, said):
    task = prontoqa.task("AndElim", shots=0, n=1)
    item = Item("0", QUESTION, GOLD)
    found = {name: judge(item, response) for name, judge in task.judges.items()}
    assert " ".join(name for name, judgement in found.items() if judgement.correct) == correct
    assert {judgement.said for judgement in found.values()} == {said}


@given(st.text(max_size=80))
@settings(max_examples=60)
def test_no_response_is_an_error(text):
    task = prontoqa.task("ModusPonens", shots=0, n=1)
    for judge in task.judges.values():
        assert not judge(task.items[0], text).correct


def test_direct_answers_are_judged_by_their_first_word():
    task = prontoqa.task("AndIntro", shots=2, n=30, mode="direct", distractors="irrelevant")
    assert (task.chance, list(task.judges), {item.gold for item in task.items}) == (0.5, ["label"], {"True", "False"})
    judge, item = task.judges["label"], task.items[0]
    other = "False" if item.gold == "True" else "True"
    assert (judge(item, f" {item.gold}").correct, judge(item, f" {other}").correct) == (True, False)
    assert (judge(item, "").said, judge(item, " Truely").said, judge(item, f" {other}. It is.").said) == (
        None,
        None,
        other,
    )


def written(tmp_path: Path, sets: object) -> Path:
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps(sets))
    return path


def test_a_file_of_ones_own_prompts(tmp_path):
    path = written(tmp_path, {"AndElim/1shot": {"prompts": [EXEMPLAR + QUESTION], "gold": [GOLD]}})
    task = prontoqa.prompt_file(path, "AndElim/1shot")
    (item,) = task.items
    assert (task.prompt(item), task.prompt(item, 0), task.shots) == (EXEMPLAR + QUESTION, QUESTION, 1)
    assert (item.groups, task.name) == ({"rule": "conjunction_elimination"}, "prontoqa/AndElim/1shot")
    assert task.judges["sound"](item, item.gold).correct
    assert ck.tasks.load(f"{path}:AndElim/1shot") == task
    with pytest.raises(TaskError, match="is asked as it is, and has no option 'n'"):
        ck.tasks.load(f"{path}:AndElim/1shot", n=3)


GOOD = {"prompts": [QUESTION], "gold": [GOLD]}


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ([], "a file of prompts is"),
        ({}, "has no prompts 'AndElim/0shot'; it has: none"),
        ({"AndElim/8shot": GOOD}, "has no prompts 'AndElim/0shot'; it has: AndElim/8shot"),
        ({"AndElim/0shot": {"prompts": [QUESTION]}}, "AndElim/0shot: the field 'gold' is missing"),
        ({"AndElim/0shot": {"prompts": [], "gold": []}}, "'prompts' is empty"),
        ({"AndElim/0shot": {**GOOD, "gold": [GOLD, GOLD]}}, "1 prompts but 2 gold proofs"),
        ({"AndElim/0shot": {**GOOD, "gold": [""]}}, "number 0 of 'gold' is no text"),
        ({"AndElim/0shot": {**GOOD, "prompts": [7]}}, "number 0 of 'prompts' is no text: 7"),
        ({"AndElim/0shot": {**GOOD, "prompts": ["Prove it."]}}, "prompt 'AndElim/0shot/000' is not 'Q: … A: …'"),
        ({"AndElim/0shot": {**GOOD, "prompts": [f"Answer.\n{QUESTION}"]}}, "it begins 'Answer"),
        ({"AndElim/0shot": {**GOOD, "prompts": [f"{QUESTION} {GOLD}"]}}, "ends 'us. Rex is a vumpus.'"),
        ({"AndElim/0shot": {**GOOD, "prompts": ["Q: Hello. Prove: Fae is loud.\nA:"]}}, "cannot be judged: .*Hello"),
        (
            {"AndElim/0shot": {"prompts": [QUESTION, EXEMPLAR + QUESTION], "gold": [GOLD, GOLD]}},
            "has 1 exemplars where others have 0",
        ),
    ],
)
def test_a_bad_file_is_told_of_by_name(tmp_path, sets, message):
    path = written(tmp_path, sets)
    with pytest.raises(TaskError, match=message) as raised:
        prontoqa.prompt_file(path, "AndElim/0shot")
    assert str(path) in str(raised.value)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(TaskError, match="no prompts can be read: No such file"):
        prontoqa.prompt_file(tmp_path / "none.json", "AndElim/0shot")
    (tmp_path / "cut.json").write_text('{"AndElim/0shot": {')
    with pytest.raises(TaskError, match=r"cut\.json is no JSON"):
        prontoqa.prompt_file(tmp_path / "cut.json", "AndElim/0shot")


@pytest.mark.skipif("CIRCUITKIT_DATA" not in os.environ, reason="CIRCUITKIT_DATA names no folder of published data")
def test_the_published_prompts_are_asked_to_the_byte():
    path = Path(os.environ["CIRCUITKIT_DATA"]) / "prontoqa/prompts.json"
    published = json.loads(path.read_text())
    for key, run in published.items():
        task = prontoqa.prompt_file(path, key)
        assert [task.prompt(item) for item in task.items] == run["prompts"]
        assert [item.gold for item in task.items] == run["gold"]
        assert f"{task.shots}shot" == key.split("/")[1]
        if task.shots:
            # The same question, behind fewer exemplars: those of the front.
            fewer = [task.prompt(item, task.shots - 1) for item in task.items]
            assert all(
                prompt.endswith(item.question) and item.exemplars[-1] not in prompt
                for prompt, item in zip(fewer, task.items, strict=True)
            )
    assert prontoqa.prompt_file(path, "OrElim/8shot") == prontoqa.prompt_file(path, "disjunction_elimination/8shot")
