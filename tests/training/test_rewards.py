"""What a response earns: the judge's word first, partial credit behind it."""

import pytest

from circuitkit.tasks import Item, Judgement, Task, prontoqa
from circuitkit.training.errors import TrainingError
from circuitkit.training.rewards import Reward


@pytest.fixture(scope="module")
def proofs():
    return prontoqa.task("implication_elimination", hops=2, shots=0, n=6, seed=3)


def sentences(text):
    return [f"{each}." for each in text.rstrip(".").split(". ")]


def test_a_right_answer_earns_all_whatever_partial_credit_there_is(proofs):
    for partial in ({}, {"read": 0.5}, {"gold": 0.2, "sound": 0.3, "strict": 0.4}):
        reward = Reward(proofs, partial=partial)
        assert [reward(item, item.gold) for item in proofs.items] == [1.0] * 6


def test_the_judge_that_is_named_is_the_one_that_is_asked(proofs):
    item = proofs.items[0]
    # A proof of two hops that leaves the middle out is right for the headline's judge and not for the strict one.
    short = " ".join([sentences(item.gold)[0], sentences(item.gold)[-1]])
    verdicts = {name: judge(item, short).correct for name, judge in proofs.judges.items()}
    assert verdicts["headline"] and not verdicts["strict"]
    assert {name: Reward(proofs, name)(item, short) for name in proofs.judges} == {
        name: float(right) for name, right in verdicts.items()
    }
    assert Reward(proofs).name == "headline"
    assert Reward(proofs, "strict", {"headline": 0.25})(item, short) == 0.25


def test_gold_is_the_share_of_the_gold_sentences_that_are_said_in_any_order_once(proofs):
    reward = Reward(proofs, partial={"gold": 0.5})
    item = proofs.items[1]
    said = sentences(item.gold)
    for n in range(len(said) - 1):
        response = " ".join([*reversed(said[:n]), *said[:n], "Fae is a wumpus."])
        assert reward(item, response) == pytest.approx(0.5 * n / len(said))


def test_gold_knows_sentences_across_paragraphs():
    proofs = prontoqa.task("disjunction_elimination", shots=0, n=1)
    item = proofs.items[0]
    assert "\n" in item.gold
    halves = item.gold.split("\n")
    assert Reward(proofs, partial={"gold": 0.9})(item, "") == 0.0
    assert 0 < Reward(proofs, partial={"gold": 0.9})(item, halves[0]) < 0.9


def test_read_is_earned_where_the_judge_could_read_an_answer():
    task = Task(
        "sums",
        (Item("0", "Q: 1 + 1\nA:", "2"),),
        {"exact": lambda item, said: Judgement(said == item.gold, said or None)},
    )
    reward = Reward(task, partial={"read": 0.1})
    assert [reward(task.items[0], said) for said in ("2", "3", "")] == [1.0, 0.1, 0.0]
    assert [reward.right(task.items[0], said) for said in ("2", "3", "")] == [True, False, False]


@pytest.mark.parametrize(
    ("judge", "partial", "said"),
    [
        ("lenient", {}, "has no judge 'lenient'; it has headline, strict, sound"),
        (None, {"style": 0.1}, "no partial credit 'style'"),
        (None, {"read": -0.1}, "weighs -0.1"),
        (None, {"read": float("nan")}, "weighs nan"),
        (None, {"read": 0.6, "gold": 0.4}, "sums to 1"),
        ("strict", {"strict": 0.5}, "no partial credit is left"),
        (None, {"headline": 0.5}, "no partial credit is left"),
    ],
)
def test_what_cannot_be_earned_is_refused(proofs, judge, partial, said):
    with pytest.raises(TrainingError, match=said):
        Reward(proofs, judge, partial)
