"""How responses fail: each class where it was put, the first wrong step, and bad input."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuitkit.circuits import CircuitError, classify_failures
from circuitkit.circuits.comparing.failures import Steps, share_repeated
from circuitkit.evaluation import Evaluation, Response
from circuitkit.tasks import prontoqa
from circuitkit.tasks.task import Item, Judgement

QUESTION = "Q: Every wumpus is a dumpus. Every dumpus is loud. Fae is a wumpus. Prove: Fae is loud.\nA:"
PROOF = " Fae is a wumpus. Every wumpus is a dumpus. Fae is a dumpus. Every dumpus is loud. Fae is loud."


def answered(*texts: str, truncated: bool = False, task: str = "prontoqa/implication_elimination/2") -> Evaluation:
    items = tuple(Item(str(at), QUESTION, PROOF) for at in range(len(texts)))
    responses = []
    for item, text in zip(items, texts, strict=True):
        verdict = prontoqa.judge(QUESTION, text)
        told = {"headline": Judgement(verdict.correct, "said"), "strict": Judgement(verdict.strict, "said")}
        responses.append(Response(item.key, 0, 0, QUESTION, text, text, len(text.split()), truncated, 0.1, told))
    return Evaluation("hand", task, items, ("headline", "strict"), tuple(responses), "clean", 0)


@pytest.mark.parametrize(
    ("text", "outcome", "wrong_at"),
    [
        (PROOF, "right", None),
        (" Fae is a wumpus. Fae is shy. Fae is loud.", "wrong step", 2),
        (" Fae is a wumpus. Every wumpus is a dumpus. Fae is a dumpus.", "no conclusion", None),
        (" Fae is a wumpus. Every wumpus is a dumpus." + " Fae is a dumpus." * 8, "loop", None),
        (" True", "no conclusion", None),
        ("", "no conclusion", None),
        (" wumpus wumpus is.", "wrong step", 1),
    ],
)
def test_each_failure_is_found_where_it_is(text, outcome, wrong_at):
    row = classify_failures(answered(text)).iloc[0]
    assert row["outcome"] == outcome
    assert (None if np.isnan(row["wrong_at"]) else row["wrong_at"]) == wrong_at


def test_what_is_broken_off_is_over_long_unless_it_is_right_or_goes_round_in_circles():
    found = classify_failures(answered(PROOF, " Fae is a wumpus. Fae is shy.", " Fae is a wumpus." * 9, truncated=True))
    assert found["outcome"].tolist() == ["right", "over-long", "loop"]
    assert found["wrong_at"].tolist()[1] == 2


def test_a_step_that_skips_another_is_wrong_to_the_strict_judge_alone():
    text = " Fae is a wumpus. Every wumpus is loud. Fae is loud."
    evaluation = answered(text)
    assert prontoqa.judge(QUESTION, text).correct and not prontoqa.judge(QUESTION, text).strict
    assert classify_failures(evaluation)["outcome"].tolist() == ["right"]
    strict = classify_failures(evaluation, judge="strict").iloc[0]
    assert (strict["outcome"], strict["wrong_at"]) == ("wrong step", 2)


def sums(*answers: tuple[str, str | None]) -> Evaluation:
    """Answers to 1 + 1 and what the judge reads in each."""
    items = tuple(Item(str(at), "1 + 1 =", "2") for at in range(len(answers)))
    responses = tuple(
        Response(item.key, 0, 0, "1 + 1 =", text, text, 3, False, 0.1, {"exact": Judgement(said == "2", said)})
        for item, (text, said) in zip(items, answers, strict=True)
    )
    return Evaluation("hand", "sums", items, ("exact",), responses, "clean", 0)


def test_other_tasks_conclude_where_their_judge_can_read_an_answer():
    found = classify_failures(sums(("is 2", "2"), ("is 3", "3"), ("who knows", None)))
    assert found["outcome"].tolist() == ["right", "wrong step", "no conclusion"]
    assert found["wrong_at"].isna().all()


def test_steps_can_be_read_by_ones_own_reader():
    found = classify_failures(sums(("a b", None)), steps=lambda item, text: Steps(len(text.split()), False))
    assert found[["outcome", "wrong_at"]].values.tolist() == [["wrong step", 2.0]]


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"judge": "sound"}, "no judge 'sound'; it has headline, strict"), ({"loops_at": 0}, "over 0 and up to 1")],
)
def test_bad_settings_are_named(settings, said):
    with pytest.raises(CircuitError, match=said):
        classify_failures(answered(PROOF), **settings)


@given(st.lists(st.sampled_from(["so", "it", "is", "loud", "."]), max_size=40))
def test_what_is_repeated_is_a_share_and_a_cycle_gone_often_enough_is_one(words):
    assert 0 <= share_repeated(" ".join(words)) <= 1
    if len(words) >= 3:
        assert share_repeated(" ".join(words * 8)) == 1


def test_words_that_never_come_again_are_no_repetition():
    assert share_repeated(" ".join(f"w{at}" for at in range(60))) == 0
