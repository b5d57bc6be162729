"""Numbers and expressions: GSM8K's published parser, and the readings that compare what answers are worth."""

import builtins
import importlib.util
import threading
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

import circuitkit as ck
from circuitkit.tasks import gsm8k
from circuitkit.tasks.answers import expressions, harness
from circuitkit.tasks.task import Item, Judgement

number, expression = expressions.number(), expressions.expression()
EIGHTEEN = Item("0", "Q: …\nA: ", "18")


@given(st.integers(-(10**9), 10**9), st.booleans())
def test_the_papers_parser_reads_whole_numbers(value: int, commas: bool) -> None:
    said = f"{value:,}" if commas else str(value)
    judged = gsm8k.paper(Item("0", "…", str(value)), f"We add them up. The answer is {said}.\n\nQ: The answer is 7.")
    assert judged == Judgement(True, str(value))


@pytest.mark.parametrize(
    ("response", "said"),
    [
        ("", None),
        ("18", None),
        ("the answer is 18.", None),  # The cue is case-sensitive.
        ("The answer is 18", "18"),  # Without a full stop, the rest.
        ("The answer is 18.00.", "18"),
        ("The answer is $18.", None),
        ("The answer is 18 dollars.", None),
        ("The answer is eighteen. The answer is 18.", None),  # The first is read, or nothing.
        ("The answer is 17. The answer is 18.", "17"),
        ("The answer is  1,8 .", "18"),
        ("The answer is .", None),
    ],
)
def test_what_the_papers_parser_makes_of(response: str, said: str | None) -> None:
    assert gsm8k.paper(EIGHTEEN, response) == Judgement(said == "18", said)


@pytest.mark.parametrize(
    "response",
    [
        "The answer is 18.",
        "The answer is $18.",
        "The answer is $18.00 per day.",
        "the final answer is: $\\boxed{18}$.",
        "18",
        "#### 18",
        "She makes 9 * 2 = $18 every day",
        "The answer is 16 - 3 + 5 = 18.",
        "**Answer: 18**",
        "The answer is **18**.",
        "The answer is \\(18\\).",
        "Answer: \\$18",
        "The answer is \\frac{36}{2}.",
        "The answer is 18 eggs for 3 days.",
        "It is 20-2=18",
        "The answer is +18",
        "The answer is 18%.",
        "The answer is 20. No: the answer is 18.",
        "The answer is 18.\n\nQ: What is 2 + 2?\nA: The answer is 4.",
        "The answer is even. There are 18",
        "The answer is\n\n$$18$$",
        "The answer is not 17. It is 18.",
        "The answer is 6*3.",
        "The answer is 9 \u00d7 2",
        "The answer is 17 1/1",
        "<think>The answer is 20? \\boxed{20}</think>\n18",
    ],
)
def test_any_usual_form_of_a_number_is_read(response: str) -> None:
    assert number(EIGHTEEN, response).correct


@pytest.mark.parametrize("response", ["", " \n", "I do not know.", "The answer is eighteen."])
def test_without_a_number_there_is_no_answer(response: str) -> None:
    assert number(EIGHTEEN, response) == Judgement(False, None)


@pytest.mark.parametrize(
    "response",
    [
        "81",
        "The answer is -18.",
        "The answer is 1.8.",
        "The answer is 18,000.",
        "1/18",
        "so 16-3=13",
        # A sign before a dollar, and one that no keyboard has; a mixed number; and two at once.
        "The answer is -$18.",
        "The answer is −18.",
        "The answer is 18 3/5.",
        "The answer is 18 or 19.",
        r"\boxed{18\text{ or }19}",
        "It is 18 1/2",
    ],
)
def test_other_numbers_are_wrong(response: str) -> None:
    judged = number(EIGHTEEN, response)
    assert judged.said is not None
    assert not judged.correct


@given(
    st.integers(-(10**8), 10**8).filter(lambda n: abs(n) > 999),
    st.sampled_from(["{,}", "\\,", ",\\!", ",\\! ", "\u202f", ","]),
    st.sampled_from(["\\boxed{{{}}}", "The answer is {}.", "so it is {}"]),
    st.booleans(),
)
def test_thousands_are_read_however_they_are_divided(value: int, divided: str, form: str, minus: bool) -> None:
    written = form.format(f"{value:,}".replace(",", divided)).replace("-", "\u2212" if minus else "-")
    for judge in (number, expression):
        assert judge(Item("0", "…", str(value)), written).correct
        assert not judge(Item("0", "…", str(-value)), written).correct


@given(st.integers(0, 50), st.integers(1, 9), st.integers(2, 9), st.sampled_from(["The answer is {}.", "so {}"]))
def test_mixed_numbers_are_the_sum_of_their_parts(whole: int, above: int, below: int, form: str) -> None:
    worth = Fraction(whole) + Fraction(above, below)
    gold = f"\\frac{{{worth.numerator}}}{{{worth.denominator}}}"
    said = form.format(f"{whole} {above}/{below}")
    assert number(Item("0", "…", str(worth)), said).correct
    assert not number(Item("0", "…", str(whole)), said).correct
    assert number(Item("0", "…", str(-worth)), form.format(f"-{whole} {above}/{below}")).correct
    assert expressions.same(gold, f"{whole} {above}/{below}")


@given(
    st.integers(0, 999), st.sampled_from(["\\boxed{{{:03d}}}", "The answer is {}.", "so m+n = {}", "{}.0", "$ {} $"])
)
def test_the_worth_counts_and_not_the_writing(value: int, form: str) -> None:
    assert number(Item("0", "…", str(value)), form.format(value)).correct


@pytest.mark.parametrize(
    ("gold", "response"),
    [
        (r"\frac{14}{3}", r"Thus $f(-2)+f(-1)+f(0)=\boxed{\frac{14}{3}}$."),
        ("p - q", "The answer is $-q+p$."),
        (r"\left( 3, \frac{\pi}{2} \right)", r"\boxed{(3, \pi/2)}"),
        (r"\text{Evelyn}", "The answer is Evelyn."),
        (r"\text{(C)}", "The answer is (C)."),
        (r"3\sqrt{13}", r"so it is $\sqrt{117}$."),
        ("6 - 5i", "the answer is $z = 6-5i$"),
        (r"\pi", r"So the area is $\pi$."),
        (r"10\%", r"\boxed{10}"),
        ("5", "so we have 5 ways"),
        ("x^2+1", "Answer: 1 + x^2"),
        ("[-2,7]", r"The answer is $x \in [-2,7]$."),
        (r"-\frac{1}{2}", "The answer is -1/2."),
        ("2, 3", r"\boxed{3, 2}"),
        ("18.90", r"The answer is \$18.90."),
        ("12", "The answer is 12 inches."),
        ("42", "42"),
        (r"11\sqrt2", r"$$\boxed{11\sqrt{2}}$$"),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\boxed{\begin{pmatrix} 1 \\ 2 \end{pmatrix}}"),
        ("90^\\circ", r"\boxed{90}"),
    ],
)
def test_expressions_are_compared_by_worth(gold: str, response: str) -> None:
    assert expression(Item("0", "Problem: …", gold), response).correct


@pytest.mark.parametrize(
    ("gold", "response"),
    [
        (r"\text{Evelyn}", "The answer is Nylevé."),
        (r"\text{east}", "The answer is seat."),
        ("p - q", "The answer is $q - p$."),
        (r"\frac{1}{2}", r"\boxed{\frac{1}{3}}"),
        ("(3,4)", "The answer is (4, 3)."),
        ("5", "\\boxed{x}"),
    ],
)
def test_other_expressions_are_wrong(gold: str, response: str) -> None:
    judged = expression(Item("0", "Problem: …", gold), response)
    assert judged.said is not None
    assert not judged.correct


def test_an_expression_of_nothing_is_unparseable() -> None:
    assert expression(Item("0", "…", "5"), "I do not know.") == Judgement(False, None)
    assert expression(Item("0", "…", "5"), "") == Judgement(False, None)


@given(st.text(alphabet="\\{}frac sqrt12$=./%^boxed()answer is#-+,", max_size=60))
def test_no_response_is_an_error(response: str) -> None:
    for judge in (number, expression):
        judged = judge(Item("0", "…", "12"), response)
        assert not (judged.correct and judged.said is None)


def test_answers_are_judged_in_threads_too() -> None:
    found: list[Judgement] = []
    item = Item("0", "…", r"\frac{\pi}{7}")
    thread = threading.Thread(target=lambda: found.append(expression(item, r"\boxed{\pi/7}")))
    thread.start()
    thread.join()
    assert found == [Judgement(True, r"\pi/7")]


def test_without_math_verify_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "math_verify" else find_spec(name, *rest)
    )
    data = tmp_path / "test.jsonl"
    data.write_text('{"question": "1 + 1?", "answer": "#### 2"}\n')
    with pytest.raises(ck.tasks.TaskError, match=r"circuitkit\[eval\]"):
        ck.tasks.load("gsm8k", data=data)
    assert list(ck.tasks.load("gsm8k", data=data, judges=["paper"]).judges) == ["paper"]


def test_many_answers_are_judged_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # Plain numbers never reach math-verify, which takes milliseconds for each.
    real_import = builtins.__import__

    def without_math_verify(name, *rest, **more):
        assert name != "math_verify"
        return real_import(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without_math_verify)
    assert all(number(Item("0", "…", str(n)), f"{n - 3} + 3 = {n}. The answer is {n}.").correct for n in range(10_000))


@pytest.mark.parametrize(
    "loop", ["\n", " ", "(", "\\(", "\\[", "$$x", "$", "\\boxed{", "the answer is ", "*\n", "1,", "1/", "-"]
)
def test_a_model_that_repeats_itself_is_judged(loop: str) -> None:
    for judge in (number, expression, harness.aime, harness.math, gsm8k.paper):
        assert not judge(Item("0", "…", "18"), f"so {loop * 10_000} it").correct
