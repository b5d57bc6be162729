"""The letter of a choice, as the thresholds paper reads it and as a reader would.

Source of `paper`: Hsiao & Dutta 2025, arXiv 2502.15120.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from string import ascii_lowercase

from circuitkit.tasks.answers.judges import own_part
from circuitkit.tasks.task import Item, Judgement

_MARK = re.compile(r"(?<!\S)\(?([A-Za-z])[).](?=\s)|(?<!\S)\(([A-Za-z])\)")
_CUE = (
    r"\b(?:(?:answer|choice|option)(?:\s+(?:choice|option|letter))?\s*"
    r"(?:(?:is|would\s+be|should\s+be|must\s+be|will\s+be)\b|[:=])|(?:choose|chose|pick|select|go\s+with)\b)"
)
# What may stand between the cue and the answer, markup included; never "not".
_LEAD = (
    r"(?:[\s*_`\"'\u201c\u2018$:]|(?:the|probably|clearly|definitely|most\s+likely|option|choice|letter)\b"
    r"|\\(?:boxed|text\w*|mathrm|mathbf)\s*\{)*"
)
_CLOSED = r"(?=[\s*_`\"'\u201d\u2019$}\])]*(?:[.,;:!?]|\n|$)|\s+(?:because|since|as|for|and)\b)"


def paper(item: Item, response: str) -> Judgement:
    """Read the letter behind the first "the answer is (".

    Any letter from a to z is an answer, also one that the question does not have.

    >>> paper(Item("0", "Q: …", "b"), " A: Ink is blotted. So the answer is (B).")
    Judgement(correct=True, said='b')
    """
    _, cue, rest = response.partition("the answer is (")
    said = rest.partition(")")[0].strip().lower()
    if not cue or len(said) != 1 or said not in ascii_lowercase:
        return Judgement(False, None)
    return Judgement(said == item.gold, said)


def robust(item: Item, response: str) -> Judgement:
    r"""Read the last answer that is given in any usual form, a choice's own words included.

    Only letters that the question has are answers, and nothing behind a further question is read.

    >>> item = Item("0", "Q: Which is blue? Answer Choices: (a) grass\n(b) sky\n", "b")
    >>> [robust(item, said).said for said in ("**B**", "It must be \\boxed{b}", "The answer is the sky.", "(z)")]
    ['b', 'b', 'b', None]
    """
    said = _said(choices(item.question), own_part(response))
    return Judgement(said is not None and said == item.gold.lower(), said)


def choices(question: str) -> dict[str, str]:
    r"""The choices that a question offers, by letter: the last run of (a), (b), … or A., B., … in it.

    >>> choices("Q: Which is blue? Answer Choices: (a) grass\n(b) sky\n")
    {'a': 'grass', 'b': 'sky'}
    """
    marks = [(found, (found[1] or found[2]).lower()) for found in _MARK.finditer(question)]
    first = max((number for number, (_, letter) in enumerate(marks) if letter == "a"), default=len(marks))
    run: list[re.Match[str]] = []
    for found, letter in marks[first:]:
        if letter == ascii_lowercase[len(run) % 26]:
            run.append(found)
    ends = [found.start() for found in run[1:]] + [len(question)]
    texts = [question[found.end() : end].strip() for found, end in zip(run, ends, strict=True)]
    return {letter: text.partition("\n")[0].strip() for letter, text in zip(ascii_lowercase, texts, strict=False)}


def _said(offered: Mapping[str, str], response: str) -> str | None:
    if not offered:
        return None
    text = re.sub(r"^\s*A:", "", response).strip()
    by_words = {words.lower(): letter for letter, words in offered.items() if words}
    patterns = _patterns(tuple(offered), tuple(sorted(by_words, key=len, reverse=True)))
    for pattern in patterns:
        if found := list(pattern.finditer(text)):
            named = found[-1].groupdict()
            if (words := named.pop("words", None)) is not None:
                return by_words[words.lower()]
            return next(letter.lower() for letter in named.values() if letter is not None)
    mentioned = {letter.lower() for letter in re.findall(r"\(([A-Za-z])\)", text)} & offered.keys()
    return mentioned.pop() if len(mentioned) == 1 else None


@lru_cache(maxsize=4096)
def _patterns(letters: tuple[str, ...], words: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    """How an answer is given: behind a cue; failing that, as all of the response, its beginning or its last line."""
    some = f"[{''.join(letters)}]"
    # "a" and "i" are words too: alone, they are answers only where the sentence or clause ends.
    firm = f"(?![ai]){some}"
    any_words = rf"(?P<words>{'|'.join(map(re.escape, words)) or '(?!)'})"
    answer = (
        rf"(?:\(\s*(?P<bracketed>{some})\s*\)|(?P<marked>{some})\)|(?P<firm>{firm})(?![\w'\u2019]|\.\w)"
        rf"|(?P<closed>{some}){_CLOSED}|{any_words}(?!\w))"
    )
    boxed = rf"\\boxed\s*\{{\s*(?:\\\w+\s*\{{)?\s*\(?\s*(?P<boxed>{some})\s*\)?\s*[}}.:]"
    plain = rf"\b(?:is|be|so|thus|hence|therefore)\b,?\s*:?\s*[*_]*\((?P<plain>{some})\)"
    given = (
        rf"{_CUE}{_LEAD}{answer}|{boxed}|{plain}",
        rf"\A\W*(?:(?P<whole>{some})|{any_words})\W*\Z",
        rf"\A\W*(?P<opening>{some})[).:](?!\w)",
        rf"\n\W*(?P<last>{some})\W*\Z",
    )
    return tuple(re.compile(each, re.IGNORECASE) for each in given)
