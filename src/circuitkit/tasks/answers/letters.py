"""The letter of a choice, as the thresholds paper reads it and as a reader would.

Source of `paper`: Hsiao & Dutta 2025, arXiv 2502.15120.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
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
_LED = re.compile(_CUE + _LEAD, re.IGNORECASE)
_IS_RIGHT = (
    r"[*_`\"'\u201d\u2019]{0,3}\s+is\s+"
    r"(?:correct|right|the\s+(?:(?:correct|right|best|only|final)\s+)?(?:answer|choice|option))\b"
)
# What stands right before a choice's mark, and so far back it is looked for.
_BEFORE = 40
_DENIED = re.compile(
    r"(?:\bnot|n['\u2019]t|\bnever|\bneither|\bnor)\s+(?:(?:the|option|choice|letter|answer)\s+){0,3}\Z", re.IGNORECASE
)
_CLOSED = r"(?=[\s*_`\"'\u201d\u2019$}\])]*(?:[.,;:!?](?!\w)|\n|$)|\s+(?:because|since|as|for|and)\b)"


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

    Only letters that the question has are answers, and nothing behind a further question is read, and no thought before
    "</think>". A list of the choices is no answer, and neither are two letters at once, as in "(a) or (b)".

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
    ends = [*(found.start() for found in run[1:]), len(question)][: len(run)]
    texts = [question[found.end() : end].strip() for found, end in zip(run, ends, strict=True)]
    return {letter: text.partition("\n")[0].strip() for letter, text in zip(ascii_lowercase, texts, strict=False)}


def _said(offered: Mapping[str, str], response: str) -> str | None:
    if not offered:
        return None
    text = re.sub(r"^\s*A:", "", response).strip()
    forms = _forms("".join(offered))
    given = _behind_cues(forms, offered, text)
    given += [(found.start(), _alone(forms, found)) for found in forms.marked.finditer(text)]
    if given:
        return max(given, key=lambda each: each[0])[1]
    whole = _bare(text)
    if by_words := [letter for letter, words in offered.items() if _bare(words) == whole]:
        return by_words[0]
    if lines := {_letter(found) for found in forms.line.finditer(text)}:
        return lines.pop() if len(lines) == 1 else None
    if (found := forms.opening.match(text)) and not _lists(forms, _letter(found), text[found.end() :]):
        return _letter(found)
    mentioned = {
        _letter(found)
        for found in forms.mark.finditer(text)
        if not _DENIED.search(text[max(0, found.start() - _BEFORE) : found.start()])
    }
    return mentioned.pop() if len(mentioned) == 1 else None


def _bare(text: str) -> str:
    return text.strip(" .*_`\"'\n").lower()


def _lists(forms: _Forms, first: str, rest: str) -> bool:
    """Whether a response goes through the choices, as its next letter is the one behind its first."""
    following = forms.mark.search(rest)
    return following is not None and ord(_letter(following)) == ord(first) + 1


def _behind_cues(forms: _Forms, offered: Mapping[str, str], text: str) -> list[tuple[int, str | None]]:
    """Where an answer follows a cue such as "the answer is", and the letter that is meant; none where two are."""
    # The lead has taken the article.
    by_words = {re.sub(r"^the\s+", "", words.lower()): letter for letter, words in offered.items() if words}
    longest = max(map(len, by_words), default=0)
    given: list[tuple[int, str | None]] = []
    for cue in _LED.finditer(text):
        if found := forms.answer.match(text, cue.end()):
            given.append((cue.start(), _alone(forms, found)))
            continue
        rest = text[cue.end() : cue.end() + longest + 1].lower()
        said = [words for words in by_words if rest.startswith(words) and not rest[len(words) :][:1].isalnum()]
        if said:
            given.append((cue.start(), by_words[max(said, key=len)]))
    return given


def _alone(forms: _Forms, found: re.Match[str]) -> str | None:
    """The letter of an answer, and none where another stands beside it, as in "(a) or (b)"."""
    return None if forms.another.match(found.string, found.end()) else _letter(found)


def _letter(found: re.Match[str]) -> str:
    return next(group for group in found.groups() if group is not None).lower()


@dataclass(frozen=True)
class _Forms:
    """How a letter is given as an answer.

    Attributes:
        answer: behind a cue.
        another: behind such an answer, one more beside it.
        marked: without a cue, anywhere.
        line: as all of a line.
        opening: as the beginning of the response.
        mark: a choice's mark, which is no answer by itself.
    """

    answer: re.Pattern[str]
    another: re.Pattern[str]
    marked: re.Pattern[str]
    line: re.Pattern[str]
    opening: re.Pattern[str]
    mark: re.Pattern[str]


@lru_cache(maxsize=256)
def _forms(letters: str) -> _Forms:
    some = f"[{letters}]"
    # "a" and "i" are words too: bare, they are answers only where the sentence or clause ends.
    answer = rf"\(\s*({some})\s*(?:\)|\Z)|({some})\)|((?![ai]){some})(?![\w'\u2019]|\.\w)|({some}){_CLOSED}"
    another = rf"(?<![a-z]{{2}})\s*(?:\b(?:or|and)\b|/|&)\s*(?:option\s+|choice\s+)?(?:\({some}\)|{some}(?!\w))"
    boxed = rf"\\boxed\s?\{{\s?(?:\\\w+\s?\{{\s?)?\(?\s?({some})\s?\)?\s?[}}.:]"
    plain = rf"\b(?:is|so|thus|hence|therefore|(?:must|should|would|has\sto)\sbe)\b,?[\s:*_]{{0,9}}\(({some})\)"
    named = rf"(?:\(({some})\)|\b(?:option|choice|letter)\s+({some})\b|(?<!\S)((?![ai]){some})){_IS_RIGHT}"
    line = rf"^[^\w\n]*({some})[^\w\n]*$"
    texts = (answer, another, f"{boxed}|{plain}|{named}", line, rf"\W*({some})[).:](?!\w)", rf"\(({some})\)")
    return _Forms(*(re.compile(text, re.IGNORECASE | re.MULTILINE) for text in texts))
