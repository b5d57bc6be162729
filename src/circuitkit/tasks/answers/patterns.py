"""Answers that are the whole response, or what a regular expression finds in it."""

from __future__ import annotations

import re
from typing import Literal

from circuitkit.tasks.task import Item, Judge, Judgement


def exact(item: Item, response: str) -> Judgement:
    """Read the whole response, white space around it aside.

    >>> exact(Item("0", "The capital of France is", "Paris"), " Paris")
    Judgement(correct=True, said='Paris')
    """
    said = response.strip()
    return Judgement(said == item.gold.strip(), said or None)


def matching(pattern: re.Pattern[str], take: Literal["first", "last"] = "first") -> Judge:
    """The judge that reads a pattern's first group, or all of its match where it has none.

    Letters of either case are equal where the pattern ignores case.

    >>> judge = matching(re.compile(r"is (\\w+)"), take="last")
    >>> judge(Item("0", "…", "Rome"), "Is it Paris? It is not, it is Rome.")
    Judgement(correct=True, said='Rome')
    """

    def judge(item: Item, response: str) -> Judgement:
        found = list(pattern.finditer(response)) if take == "last" else [pattern.search(response)]
        match = found[-1] if found else None
        said = "" if match is None else (match[1 if pattern.groups else 0] or "").strip()
        gold = item.gold.strip()
        equal = said.casefold() == gold.casefold() if pattern.flags & re.IGNORECASE else said == gold
        return Judgement(bool(said) and equal, said or None)

    return judge
