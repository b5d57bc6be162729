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
    ends = [*(found.start() for found in run[1:]), len(question)][: len(run)]
    texts = [question[found.end() : end].strip() for found, end in zip(run, ends, strict=True)]
    return {letter: text.partition("\n")[0].strip() for letter, text in zip(ascii_lowercase, texts, strict=False)}


def _said(offered: Mapping[str, str], response: str) -> str | None:
    if not offered:
        return None
    text = re.sub(r"^\s*A:", "", response).strip()
    forms = _forms("".join(offered))
    if given := _behind_cues(forms, offered, text) + [
        (found.start(), _letter(found)) for found in forms.marked.finditer(text)
    ]:
        return max(given)[1]
    whole = text.strip(" .*_`\"'\n").lower()
    if by_words := [letter for letter, words in offered.items() if words.lower() == whole]:
        return by_words[0]
    for pattern, part in zip(forms.alone, (text, text, text.rpartition("\n")[2]), strict=True):
        if found := pattern.match(part):
            return _letter(found)
    mentioned = {letter.lower() for letter in re.findall(r"\(([A-Za-z])\)", text)} & offered.keys()
    return mentioned.pop() if len(mentioned) == 1 else None


def _behind_cues(forms: _Forms, offered: Mapping[str, str], text: str) -> list[tuple[int, str]]:
    """Where an answer follows a cue such as "the answer is", and the letter that is meant."""
    # The lead has taken the article.
    by_words = {re.sub(r"^the\s+", "", words.lower()): letter for letter, words in offered.items() if words}
    longest = max(map(len, by_words), default=0)
    given = []
    for cue in _LED.finditer(text):
        if found := forms.answer.match(text, cue.end()):
            given.append((cue.start(), _letter(found)))
            continue
        rest = text[cue.end() : cue.end() + longest + 1].lower()
        said = [words for words in by_words if rest.startswith(words) and not rest[len(words) :][:1].isalnum()]
        if said:
            given.append((cue.start(), by_words[max(said, key=len)]))
    return given


def _letter(found: re.Match[str]) -> str:
    return next(group for group in found.groups() if group is not None).lower()


@dataclass(frozen=True)
class _Forms:
    """How a letter is given as an answer: behind a cue, without one, or as all, the beginning or the last line."""

    answer: re.Pattern[str]
    marked: re.Pattern[str]
    alone: tuple[re.Pattern[str], ...]


@lru_cache(maxsize=256)
def _forms(letters: str) -> _Forms:
    some = f"[{letters}]"
    # "a" and "i" are words too: bare, they are answers only where the sentence or clause ends.
    answer = rf"\(\s*({some})\s*(?:\)|\Z)|({some})\)|((?![ai]){some})(?![\w'\u2019]|\.\w)|({some}){_CLOSED}"
    boxed = rf"\\boxed\s?\{{\s?(?:\\\w+\s?\{{\s?)?\(?\s?({some})\s?\)?\s?[}}.:]"
    plain = rf"\b(?:is|so|thus|hence|therefore|(?:must|should|would|has\sto)\sbe)\b,?[\s:*_]{{0,9}}\(({some})\)"
    texts = (answer, f"{boxed}|{plain}", rf"\W*({some})\W*\Z", rf"\W*({some})[).:](?!\w)")
    behind, marked, whole, opening = (re.compile(text, re.IGNORECASE) for text in texts)
    return _Forms(behind, marked, (whole, opening, whole))
