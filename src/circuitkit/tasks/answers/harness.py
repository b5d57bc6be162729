r"""Answers as lm-evaluation-harness reads and compares them: by \boxed{} or dollars, and equal as strings.

Source: lm-evaluation-harness (commit 4e7e0d4), tasks aime24, aime25 and hendrycks_math500, whose comparison is that of
Hendrycks et al. 2021, arXiv 2103.03874.
"""

from __future__ import annotations

import re

from circuitkit.tasks.task import Item, Judgement

_REPLACED = (
    ("\n", ""), ("\\!", ""), ("\\\\", "\\"), ("tfrac", "frac"), ("dfrac", "frac"), ("\\left", ""), ("\\right", ""),
    ("^{\\circ}", ""), ("^\\circ", ""), ("\\$", ""),
)  # fmt: skip


class _UnlikeAnyError(ValueError):
    """A text that the comparison gives up on, and takes as it stands."""


def aime(item: Item, response: str) -> Judgement:
    r"""Read the last \boxed{}, else what stands between the first and the last dollar, else all of the response.

    It is right where its string equals the gold's: "073" is not "73", and a bare "The answer is 73." is wrong.
    An empty response is unparseable; everything else says something. The harness looks for an \fbox too where there is
    no \boxed, but takes nothing out of it, and neither does this.

    >>> item = Item("0", "Question: …\nAnswer:", "73")
    >>> [aime(item, said).correct for said in (r"\boxed{73}.", "$73$", " 73", "The answer is 73.", r"\boxed{073}")]
    [True, True, True, False, False]
    """
    said = _boxed(response)
    return _judged(item, _between_dollars(response) if said is None else said, response)


def math(item: Item, response: str) -> Judgement:
    r"""Read what stands between the first and the last dollar, else all of the response, as the harness does in MATH.

    A \boxed{} is not read there, so that an answer in one is wrong.

    >>> item = Item("0", "Problem: …\nAnswer:", "\\frac{1}{2}")
    >>> [math(item, said).correct for said in ("It is $\\frac12$.", " 1/2", r"$\boxed{\frac{1}{2}}$")]
    [True, True, False]
    """
    return _judged(item, _between_dollars(response), response)


def _judged(item: Item, said: str, response: str) -> Judgement:
    if not response.strip():
        return Judgement(False, None)
    return Judgement(equal(said, item.gold), said.strip())


def _between_dollars(text: str) -> str:
    parts = text.split("$")
    return "$".join(parts[1:-1]) if len(parts) > 2 else text


def equal(said: str, gold: str) -> bool:
    r"""Whether two answers are one string once spacing, units, and ways of writing fractions and roots are set aside.

    >>> equal(r"\dfrac12", "1/2"), equal("x = 5", "5"), equal("5.0", "5")
    (True, True, False)
    """
    try:
        return canonical(said) == canonical(gold)
    except _UnlikeAnyError:
        return said == gold


def canonical(text: str) -> str:
    """A text as the comparison writes it.

    Raises:
        ValueError: it is of a form that the comparison gives up on, such as a root of nothing.
    """
    for old, new in _REPLACED:
        text = text.replace(old, new)
    if text.count("\\text{ ") > 1:
        raise _UnlikeAnyError(text)
    text = text.partition("\\text{ ")[0].replace("\\%", "").replace(" .", " 0.").replace("{.", "{0.")
    text = f"0{text}" if text.startswith(".") else text
    left, equals, right = text.partition("=")
    if equals and "=" not in right and len(left) <= 2:
        text = right
    text = _fractions(_roots(text).replace(" ", ""))
    return _quotient("\\frac{1}{2}" if text == "0.5" else text)


def _roots(text: str) -> str:
    r"""\sqrt3 as \sqrt{3}."""
    if re.search(r"\\sqrt(?=\\sqrt|$)", text):
        raise _UnlikeAnyError(text)
    return re.sub(r"\\sqrt([^{])", r"\\sqrt{\1}", text)


def _fractions(text: str) -> str:
    r"""\frac12 and \frac1{2} as \frac{1}{2}; the whole text as it is where one of them has no denominator."""
    first, *pieces = text.split("\\frac")
    written = [first]
    for piece in pieces:
        if not piece:
            raise _UnlikeAnyError(text)
        if piece[0] == "{":
            written.append(piece)
        elif len(piece) == 1:
            return text
        else:
            below = piece[1:] if piece[1] == "{" else f"{{{piece[1]}}}{piece[2:]}"
            written.append(f"{{{piece[0]}}}{below}")
    return "\\frac".join(written)


def _quotient(text: str) -> str:
    r"""3/4 as \frac{3}{4}, of whole numbers only."""
    if text.count("/") != 1:
        return text
    try:
        above, below = map(int, text.split("/"))
    except ValueError as error:
        raise _UnlikeAnyError(text) from error
    return f"\\frac{{{above}}}{{{below}}}" if text == f"{above}/{below}" else text


def _boxed(text: str) -> str | None:
    if "\\boxed " in text:
        return text.rpartition("\\boxed ")[2].partition("$")[0]
    start = text.rfind("\\boxed{")
    if start < 0 or "\\boxed" in text[start + 1 :]:
        return None
    open_braces = 0
    for at in range(start + len("\\boxed"), len(text)):
        open_braces += {"{": 1, "}": -1}.get(text[at], 0)
        if not open_braces:
            return text[start + len("\\boxed{") : at]
    return None
