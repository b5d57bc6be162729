r"""Numbers and expressions as a reader would find them, compared by what they are worth.

Plain numbers are compared here, exactly; everything else by math-verify.
"""

from __future__ import annotations

import importlib.util
import re
import threading
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from typing import Any

from circuitkit.tasks.answers import harness
from circuitkit.tasks.answers.judges import own_part
from circuitkit.tasks.task import Item, Judge, Judgement, TaskError

# A longer answer is a text; reading one as an expression can take minutes.
_LONGEST = 300
# A model may repeat itself without end: so far is a bracket that closes looked for, and so many answers are tried.
_REACH, _TRIES = 2000, 20
# By the clock, so it is generous: a busy machine must not change a verdict.
_SECONDS = 15

_DIGITS = r"-?(?:\d+ \d+/\d+|(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)(?:/\d+)?)"
_NUMBER = re.compile(rf"(?<![\w.]){_DIGITS}(?!\w)")
_ONLY_A_NUMBER = re.compile(rf"\+?\\?\$?\s*({_DIGITS})\s*(?:\\?[%$])?\.?")
_CALCULATION = re.compile(r"[\d\s.,()]+(?:[-+*/][\d\s.,()]+)+")
_EITHER = re.compile(rf"{_DIGITS}\s*(?:\\text\s*\{{\s*or\s*\}}|\bor\b)\s*\\?\$?\s*{_DIGITS}")
_CUE = re.compile(
    r"(?:\banswer(?:\s+\w+)?\s*(?:\b(?:is|would be|will be|equals)\b|[:=])|####)(?![\s:*_]*not\b)[\s:*_]*",
    re.IGNORECASE,
)
# Thousands as LaTeX and typesetters divide them: 1{,}234, 1,\!234, 1\,234, and with a thin space.
_THOUSANDS = re.compile(r"(?<=\d)(?:\{,\}|,\\!|\\[,;:!]|[\u2009\u202f])\s*(?=\d{3}(?!\d))")
_FORMULA = re.compile(
    rf"\$\$(.{{1,{_REACH}}}?)\$\$|(?<!\\)\$((?:[^$\\]|\\.)+)\$|\\\((.{{1,{_REACH}}}?)\\\)|\\\[(.{{1,{_REACH}}}?)\\\]",
    re.DOTALL,
)
_SENTENCE = re.compile(r"[^\n]*?(?=[.!?](?:\s|$)|\n|$)")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_WORD = re.compile(r"[A-Za-z]{3,}")


def number() -> Judge:
    r"""The judge of answers that are numbers.

    It reads the last \boxed{}, else what is called the answer last, else the last number; nothing behind a further
    question is read, and no thought before "</think>". Two numbers at once, as in "7 or 8", are wrong.

    Raises:
        TaskError: math-verify is not installed.

    >>> judge, item = number(), Item("0", "Q: …", "1234")
    >>> [judge(item, said).correct for said in ("The answer is $1,234.00.", "So 617 * 2 = 1234 eggs", "")]
    [True, True, False]
    """
    _require_math_verify()
    return _number


def expression() -> Judge:
    r"""The judge of answers that are mathematical expressions.

    It reads the last \boxed{}, else what is called the answer last, else the last formula, else the last number.

    Raises:
        TaskError: math-verify is not installed.

    >>> judge, item = expression(), Item("0", "Problem: …", r"\frac{1}{2}")
    >>> [judge(item, said).correct for said in (r"so $\boxed{0.5}$", "The answer is $2/4$.", "The answer is 2.")]
    [True, True, False]
    """
    _require_math_verify()
    return _expression


def same(gold: str, said: str) -> bool:
    r"""Whether an answer is worth what the gold one is, or says the same word.

    >>> same(r"\left(3, \frac{\pi}{2}\right)", r"(3, \pi/2)"), same(r"\text{(C)}", "C"), same("12", "21")
    (True, True, False)
    """
    values = [_worth(each) for each in (gold, said)]
    if None not in values:
        return values[0] == values[1]
    if harness.equal(said, gold):
        return True
    texts = [re.sub(r"\\(?:text|math)\w*|[{}()$.\s]", "", each).casefold() for each in (gold, said)]
    if texts[0] == texts[1]:
        return True
    # Letters of a word would be read as a product, which they make in any order.
    return not _WORD.search(_COMMAND.sub("", gold)) and _verified(gold, said)


def _number(item: Item, response: str) -> Judgement:
    # The dollar of an amount may stand between it and its sign.
    text = re.sub(r"-\\?\$(?=\s*[\d.])", "-", _typed(own_part(response)))
    for said in _named(text):
        # Of a calculation, its result.
        result = said.rpartition("=")[2].strip()
        if _EITHER.match(result):
            return Judgement(False, result)
        calculated = re.search(r"[\\^]", result) or _CALCULATION.fullmatch(result)
        if _worth(result) is None and calculated and _read(result):
            return Judgement(same(item.gold, result), result)
        if (found := _only_number(result) or _first_number(result)) is not None:
            return Judgement(same(item.gold, found), found)
    numbers = _NUMBER.findall(text)
    return Judgement(same(item.gold, numbers[-1]), numbers[-1]) if numbers else Judgement(False, None)


def _expression(item: Item, response: str) -> Judgement:
    text = _typed(own_part(response))
    for said in _named(text):
        if _EITHER.match(said) and _worth(item.gold) is not None:
            return Judgement(False, said)
        # A number before words is an amount of them.
        amount = re.match(rf"({_DIGITS})\s+[a-z]", said)
        value = amount[1] if amount else said
        return Judgement(same(item.gold, value), value)
    last = [*(_inside(found) for found in _FORMULA.finditer(text)), *_NUMBER.findall(text)[-1:]]
    formulas = [said for said in last if said]
    if not formulas:
        return Judgement(False, None)
    said = formulas[-2] if len(formulas) > 1 else formulas[-1]
    return Judgement(same(item.gold, said), said)


def _typed(text: str) -> str:
    """A text with minus signs and thousands as a keyboard writes them."""
    return _THOUSANDS.sub(",", text.replace("\u2212", "-").replace("\u00d7", "*"))


def _named(text: str) -> Iterator[str]:
    """What a response calls its answer, what is boxed first, then from the last on."""
    boxed = _last_boxed(text)
    if boxed:
        yield boxed
    cues = list(_CUE.finditer(text))
    ends = [*(cue.start() for cue in cues[1:]), len(text)][: len(cues)]
    for cue, end in list(zip(cues, ends, strict=True))[::-1][:_TRIES]:
        behind = text[cue.end() : min(end, cue.end() + _REACH)]
        sentence = _SENTENCE.match(behind)
        formula = _FORMULA.match(behind) or (sentence and _FORMULA.search(sentence[0]))
        said = _inside(formula) if formula else _bare(sentence[0]) if sentence else ""
        if said:
            yield said


def _last_boxed(text: str) -> str | None:
    for found in list(re.finditer(r"\\(?:boxed|fbox|framebox)\s*(\{)?", text))[::-1][:_TRIES]:
        if found[1] is None:
            bare = re.match(r"[^\s$.,]+", text[found.end() : found.end() + _REACH])
            if bare:
                return bare[0]
            continue
        open_braces = 1
        for at in range(found.end(), min(len(text), found.end() + _REACH)):
            open_braces += {"{": 1, "}": -1}.get(text[at], 0)
            if not open_braces:
                return _bare(text[found.end() : at])
    return None


def _inside(formula: re.Match[str]) -> str:
    return _bare(next(part for part in formula.groups() if part is not None))


def _bare(text: str) -> str:
    return text.strip().strip("*_`").removesuffix(".").strip()


def _only_number(text: str) -> str | None:
    found = _ONLY_A_NUMBER.fullmatch(text.strip())
    return None if found is None else found[1]


def _first_number(text: str) -> str | None:
    found = _NUMBER.search(text)
    return None if found is None else found[0]


def _worth(text: str) -> Fraction | None:
    """The value of a plain number; None where a text is something else."""
    plain = _only_number(text)
    if plain is None:
        return None
    whole, space, fraction = plain.replace(",", "").rpartition(" ")
    above, _, below = fraction.partition("/")
    if below and not below.strip("0"):
        return None
    part = Fraction(above) / Fraction(below or 1)
    if not space:
        return part
    # Of a mixed number, the sign is that of both parts.
    return Fraction(whole) + (-part if whole.startswith("-") else part)


def _verified(gold: str, said: str) -> bool:
    from math_verify import verify

    expected, found = _read(gold), _read(said)
    return bool(expected and found and verify(list(expected), list(found), timeout_seconds=_seconds()))


@lru_cache(maxsize=8192)
def _read(text: str) -> tuple[Any, ...]:
    from math_verify import parse

    if len(text) > _LONGEST:
        return ()
    if " " in text and (mixed := _worth(text)) is not None:
        text = str(mixed)
    return tuple(parse(f"${text}$", parsing_timeout=_seconds()))


def _seconds() -> int | None:
    # The limit works by a signal, which only the main thread can have.
    return _SECONDS if threading.current_thread() is threading.main_thread() else None


def _require_math_verify() -> None:
    if importlib.util.find_spec("math_verify") is None:
        raise TaskError(
            "reading numbers and expressions as a reader would needs math-verify: pip install 'circuitkit[eval]'; or "
            'do without that judge: judges=["paper"] in GSM8K, ["harness"] in competitions'
        )
