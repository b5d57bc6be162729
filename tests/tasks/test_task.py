"""A task's questions, prompts and parts, and what is no task."""

from typing import Any

import pytest

import circuitkit as ck
from circuitkit.tasks.task import Item, Judgement, Task, TaskError

JUDGES = {"any": lambda item, said: Judgement(bool(said), said or None)}
ITEMS = (Item("x", "Q: x\nA:", "1"), Item("y", "Q: y\nA:", "2", ("own 1 ", "own 2 ")), Item("z", "Q: z\nA:", "3"))
TASK = Task("toy", ITEMS, JUDGES, ("one ", "two ", "three "), shots=2)


def test_a_prompt_is_the_first_exemplars_and_the_question() -> None:
    assert [TASK.prompt(item) for item in ITEMS] == [
        "one two Q: x\nA:",
        "own 1 own 2 Q: y\nA:",
        "one two Q: z\nA:",
    ]
    assert (TASK.prompt(ITEMS[0], 0), TASK.prompt(ITEMS[0], 3)) == ("Q: x\nA:", "one two three Q: x\nA:")
    assert TASK.most_shots == 2
    for shots in (3, -1):
        with pytest.raises(TaskError, match=rf"{shots} exemplars are wanted of question 'y', which has 2"):
            TASK.prompt(ITEMS[1], shots)


def test_parts_of_a_task_are_asked_alike() -> None:
    some = TASK.only(["z", "x"])
    assert [item.key for item in some.items] == ["z", "x"]
    assert some.prompt(some.items[0]) == TASK.prompt(ITEMS[2])
    assert [item.key for item in TASK.first(2).items] == ["x", "y"]
    assert TASK.first(9) == TASK
    with pytest.raises(TaskError, match="toy has no question 'w'"):
        TASK.only(["x", "w"])
    for n in (0, -1):
        with pytest.raises(TaskError, match=f"the first {n} questions are none"):
            TASK.first(n)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"items": ()}, "a task needs questions"),
        ({"judges": {}}, "a task needs a judge"),
        ({"items": (ITEMS[0], ITEMS[0])}, "two questions are called 'x'"),
        ({"items": (Item("x", "Q: x\nA:", ""),)}, "question 'x' has no answer key"),
        ({"shots": -1}, "-1 exemplars are wanted: give 0 or more"),
        ({"shots": 3}, "3 exemplars are wanted, and there are 2"),
    ],
)
def test_what_is_no_task_is_named(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(TaskError, match=told):
        Task(**({"name": "toy", "items": ITEMS, "judges": JUDGES, "exemplars": TASK.exemplars} | fields))


def test_a_number_of_hops_that_there_is_not_is_named():
    with pytest.raises(TaskError, match=r"prontoqa/implication_elimination/9: hops must be from 1 to 5"):
        ck.tasks.load("prontoqa/implication_elimination/9")
