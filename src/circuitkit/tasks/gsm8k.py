"""GSM8K: grade-school arithmetic in words, asked as the thresholds paper's revision asks it.

Sources: Cobbe et al. 2021, arXiv 2110.14168 (questions); Hsiao & Dutta 2025, arXiv 2502.15120 (prompt and parser).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from circuitkit.tasks import exemplar_texts
from circuitkit.tasks.answers import expressions
from circuitkit.tasks.answers.judges import chosen
from circuitkit.tasks.sources import HubData, Row, find
from circuitkit.tasks.task import Item, Judgement, Task, TaskError

FILE = "gsm8k/test.jsonl"
HUB = HubData("openai/gsm8k", "test", "main")


def task(
    data: str | Path | None = None,
    exemplars: str | Path | Sequence[str] | None = None,
    shots: int | None = None,
    judges: Sequence[str] | None = None,
) -> Task:
    """The 1,319 problems of the test split, behind eight exemplars, answered in at most 256 tokens.

    Items are told apart by "steps", the number of calculations in the published solution. Their keys are their
    numbers in the split, from 0.

    Args:
        data: a file, or "hub"; the folder of data or the hub if None.
        exemplars: a file in which each begins with "Q:", texts, or "built-in"; `gsm8k/exemplars.txt` in the folder of
            data, or our own eight where it has none, if None.
        shots: how many exemplars are wanted; all if None.
        judges: "paper", the parser of the paper, which is the headline, and "robust", which reads any number.

    Raises:
        TaskError: the questions or exemplars cannot be had, one has no answer, or math-verify is not installed.
    """
    found = find("gsm8k", [FILE], [HUB], data)
    given = exemplar_texts.find("gsm8k", exemplars, start="Q:", end="\n\n")
    return Task(
        "gsm8k",
        tuple(_item(row) for row in found.rows),
        chosen("gsm8k", {"paper": lambda: paper, "robust": expressions.number}, judges),
        given.texts,
        shots=len(given.texts) if shots is None else shots,
        max_new_tokens=256,
        source=f"{found.source}; exemplars: {given.source}",
    )


def paper(item: Item, response: str) -> Judgement:
    """Read the whole number between the first "The answer is " and the next full stop, its commas taken out.

    Anything else there, such as an amount of dollars, is unparseable.

    >>> paper(Item("0", "Q: …", "1200"), "6 * 200 = 1200. The answer is 1,200.")
    Judgement(correct=True, said='1200')
    """
    _, cue, rest = response.partition("The answer is ")
    try:
        said = int(rest.partition(".")[0].replace(",", "") if cue else "")
    except ValueError:
        return Judgement(False, None)
    return Judgement(said == int(item.gold), str(said))


def _item(row: Row) -> Item:
    key, answer = str(row.number), row["answer"] or ""
    solution, mark, gold = answer.rpartition("####")
    gold = gold.replace(",", "").strip()
    if not mark or not gold.removeprefix("-").isdigit():
        raise TaskError(f"gsm8k: question {key!r} has no answer key: its solution ends in no #### number ({row.place})")
    return Item(key, f"Q: {row['question']}\nA: ", gold, groups={"steps": solution.count("<<")})
