"""Letters of choices: the paper's parser to the letter, and the one that reads any usual form."""

from string import ascii_letters, ascii_lowercase, digits

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuitkit.tasks.answers.letters import choices, paper, robust
from circuitkit.tasks.task import Item, Judgement

QUESTION = (
    "Q: Where would you find magazines? Answer Choices: (a) bank\n(b) bookstore\n(c) department store\n(d) the mall\n"
    "(e) new york\n"
)
ITEM = Item("0", QUESTION, "b")
# Prose that no reading could take for an answer.
RATIONALES = st.text(alphabet=ascii_letters + digits + " .,\n'", max_size=120).filter(
    lambda text: not {"answer", "choice", "option", "q"} & set(text.lower().split()) and "a:" not in text.lower()
)


@given(RATIONALES, st.sampled_from(ascii_lowercase), st.sampled_from(["", " ", "  "]), st.booleans())
def test_the_papers_parser_reads_any_letter_behind_its_cue(before: str, letter: str, space: str, upper: bool) -> None:
    said = letter.upper() if upper else letter
    judged = paper(ITEM, f"{before} So the answer is ({space}{said}{space}).")
    assert judged == Judgement(letter == "b", letter)


@given(st.sampled_from("acde"), st.sampled_from("abcde"))
def test_the_papers_parser_takes_the_first_of_several(first: str, second: str) -> None:
    assert paper(ITEM, f"A: the answer is ({first}). Q: …\nA: So the answer is ({second}).").said == first


@pytest.mark.parametrize(
    ("response", "said"),
    [
        ("", None),
        ("  \n", None),
        ("the answer is (", None),
        # Without a bracket that closes, the rest of the response is read.
        ("the answer is (b", "b"),
        ("the answer is (b because", None),
        ("The answer is (b).", None),  # The cue is case-sensitive …
        ("The Answer is (c). So the answer is (b).", "b"),
        ("the answer is b", None),  # … and has a bracket.
        ("the answer is (b) and (c)", "b"),
        ("the answer is (bookstore).", None),
        ("the answer is (bc). the answer is (b).", None),  # The first is read, or nothing.
        ("the answer is (5)", None),
        ("the answer is (é)", None),
        ("the answer is (z)", "z"),  # Wrong, and not unparseable.
    ],
)
def test_what_the_papers_parser_makes_of(response: str, said: str | None) -> None:
    assert paper(ITEM, response) == Judgement(said == "b", said)


@pytest.mark.parametrize(
    "response",
    [
        "b",
        " (b)",
        "B.",
        "**B**",
        "(b) bookstore",
        "B. bookstore",
        "A: (b)",
        "bookstore",
        "A: Bookstore.",
        "So the answer is (b).",
        "The answer is b.",
        "The answer is B",
        "the answer is b because",
        "Answer: b",
        "**Answer:** B",
        "The correct answer is **(B) bookstore**",
        "final answer: (B)",
        "The answer is: \n\n(b)",
        "The answer is a bookstore, so it is (b).",
        "The answer is the bookstore.",
        'The answer is "bookstore".',
        "The best choice is the bookstore",
        "I would go with option b.",
        "Choose B",
        "It must be \\boxed{b}",
        "$\\boxed{\\text{(B)}}$",
        "So the answer is (b",
        "The answer is choice 'b'.",
        "I think that (b) fits well",
        "The answer is not (a). It is (b).",
        "The answer is (a). No, wait: the answer is (b).",
        "Magazines are sold.\n\nB",
        "So the answer is (b).\nQ: What is red? Answer Choices: (a) sky\nA: the answer is (a).",
        "B\n\nExplanation: (a) is a bank",
        "(b) is the answer, not (c)",
        "Option B is correct.",
        "(B) is correct, because (A) is a bank.",
        "The answer is (a)? No. (b) is right.",
        "It isn't (a), so we have (b) left",
        "<think>The answer is (a)? Or B is correct?</think>\n(b)",
    ],
)
def test_any_usual_form_is_read(response: str) -> None:
    assert robust(ITEM, response) == Judgement(True, "b")


@pytest.mark.parametrize(
    "response",
    [
        "",
        " \n",
        "The answer is (f).",
        "I do not know.",
        "A place to read",
        "It could be (a) or (b).",
        "the answer is e.g. a shop",
        "The answer is a place where people read",
        "The answer is: a bank is not it",
        "The answer is not (b).",
        "The answer is (B) or (C).",
        "The answer is b or c",
        "(b) or (c)",
        # The choices gone through, or given again.
        "(b) no (c) yes",
        "(b) bookstore\n(c) department store",
        "A: (a) bank\n(b) bookstore\n(c) department store\n(d) the mall\n(e) new york",
        "B\nC\nD",
        "<think>The answer is (b).</think>",
    ],
)
def test_what_says_no_letter_of_the_question_is_unparseable(response: str) -> None:
    assert robust(ITEM, response) == Judgement(False, None)


@given(RATIONALES, st.sampled_from("abcde"), st.sampled_from(["the answer is ({})", "Answer: {}", "\\boxed{{{}}}"]))
def test_the_last_answer_behind_any_prose_is_read(before: str, letter: str, form: str) -> None:
    assert robust(ITEM, f"{before}\n{form.format(letter)}.").said == letter


@given(st.text(max_size=200))
def test_no_response_is_an_error(response: str) -> None:
    for judge in (paper, robust):
        judged = judge(ITEM, response)
        assert judged.correct == (judged.said == "b")


def test_a_choices_words_are_read_with_its_own_full_stop() -> None:
    item = Item("0", "Q: What? Answer Choices: (a) a desk\n(b) a car.\n", "b")
    assert robust(item, "A: A car.") == robust(item, "a car") == Judgement(True, "b")


def test_choices_are_read_in_the_forms_that_prompts_have() -> None:
    expected = {"a": "grass", "b": "the blue sky"}
    assert choices("Q: Which is blue? Answer Choices: (a) grass\n(b) the blue sky\n") == expected
    assert choices("Which is blue?\nA. grass\nB. the blue sky\nAnswer:") == expected
    assert choices("Which is blue?\nA) grass\nB) the blue sky\n") == expected
    # Those of the question, not of an exemplar before it.
    assert choices("Q: (a) x (b) y (c) z\nA: (a)\nQ: Which?\n(a) grass\n(b) the blue sky\n") == expected
    assert choices("Q: Is it vitamin (c)?") == {}
    assert robust(Item("0", "Q: Is it?", "yes"), "(a)") == Judgement(False, None)


def test_many_responses_are_judged_at_once() -> None:
    # A pattern of each question's own would take half a minute for these.
    items = [Item(str(n), QUESTION.replace("bank", f"bank {n}"), "b") for n in range(10_000)]
    assert all(robust(item, "It sells magazines. So the answer is (b).").correct for item in items)


@pytest.mark.parametrize(
    "loop", ["\n", " ", "(", "the answer is ", "*\n", "A: ", "the answer is (b or ", "\\boxed{", "(b) ", "b\n"]
)
def test_a_model_that_repeats_itself_is_judged(loop: str) -> None:
    for judge in (paper, robust):
        assert judge(ITEM, f"so {loop * 30_000} it").said in (None, "b")
