r"""Answers as the harness reads them: \boxed{}, dollars, and equality of strings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuitkit.tasks.answers import harness
from circuitkit.tasks.task import Item, Judgement


@pytest.mark.parametrize(
    ("response", "gold", "correct"),
    [
        (r"so $m+n = 73$ and \boxed{73}", "73", True),
        (r"\boxed{12} is wrong, \boxed{73} is right", "73", True),
        (r"\boxed{73} is right, but \boxed{12}", "73", False),
        (r"$\boxed{\frac{1}{2}}$", "1/2", True),  # Braces within braces.
        (r"\boxed 73$ and so on", "73", True),
        ("$73$", "73", True),
        ("first $a$, then $73$", "73", False),  # All between the first dollar and the last.
        ("It costs 5$, and 73", "73", False),
        (" 73", "73", True),
        ("The answer is 73.", "73", False),
        (r"\boxed{073}", "73", False),
        (r"\boxed{73", "73", False),  # Never closed.
        (r"\fbox{73}", "73", False),
        (r"\boxed{x = 73}", "73", True),
        (r"\boxed{73^\circ}", "73", True),
        (r"\boxed{73\%}", "73", True),
    ],
)
def test_aime(response: str, gold: str, correct: bool) -> None:
    assert harness.aime(Item("0", "Question: …", gold), response).correct is correct


def test_math_is_read_without_boxes() -> None:
    item = Item("0", "Problem: …", "\\frac{1}{2}")
    assert harness.math(item, "Thus it is $\\dfrac12$.").correct
    assert not harness.math(item, "Thus it is $\\boxed{\\frac{1}{2}}$.").correct


@pytest.mark.parametrize("judge", [harness.aime, harness.math])
def test_only_nothing_is_unparseable(judge) -> None:
    item = Item("0", "Question: …", "73")
    assert judge(item, " \n") == Judgement(False, None)
    assert judge(item, "no idea").said == "no idea"


@pytest.mark.parametrize(
    ("said", "gold"),
    [
        (r"\tfrac{1}{2}", r"\frac{1}{2}"),
        (r"\frac12", r"\frac{1}{2}"),
        (r"\frac1{72}", r"\frac{1}{72}"),
        ("3/4", r"\frac{3}{4}"),
        ("0.5", r"\frac{1}{2}"),
        (".5", "0.5"),
        (r"\sqrt3", r"\sqrt{3}"),
        (r"\left(1, 2\right)", "(1,2)"),
        ("k = 5", "5"),
        (r"5\text{ cm}", "5"),
        (r"\$5", "5"),
        ("1\\!000", "1000"),
        ("4 5", "45"),
    ],
)
def test_ways_of_writing_that_are_equal(said: str, gold: str) -> None:
    assert harness.equal(said, gold)
    assert harness.equal(gold, said)


@pytest.mark.parametrize(
    ("said", "gold"), [("5.0", "5"), ("073", "73"), ("abc = 5", "5"), ("2/4", "1/2"), ("1,000", "1000")]
)
def test_ways_of_writing_that_are_not(said: str, gold: str) -> None:
    assert not harness.equal(said, gold)


# What the comparison gives up on is compared as it stands, as there: a root or fraction of nothing, letters' quotients.
@pytest.mark.parametrize("text", [r"\sqrt", r"\frac", "a/b", r"1\text{ cm}2\text{ cm}"])
def test_what_cannot_be_compared_is_a_string(text: str) -> None:
    assert harness.equal(text, text)
    assert not harness.equal(text + " ", text)


@given(st.text(alphabet="\\{}frac sqrt12$=./%^boxed", max_size=40), st.text(max_size=10))
def test_no_response_is_an_error(response: str, gold: str) -> None:
    assert harness.equal(response, response)
    for judge in (harness.aime, harness.math):
        assert isinstance(judge(Item("0", "…", gold or "1"), response), Judgement)
