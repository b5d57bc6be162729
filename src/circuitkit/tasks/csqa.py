"""CommonsenseQA: everyday questions with five choices, asked as the thresholds paper asks them.

Sources: Talmor et al. 2019, arXiv 1811.00937 (questions); Hsiao & Dutta 2025, arXiv 2502.15120 (prompt and parser).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from circuitkit.tasks import exemplar_texts
from circuitkit.tasks.answers import letters
from circuitkit.tasks.answers.judges import chosen
from circuitkit.tasks.sources import HubData, Row, find
from circuitkit.tasks.task import Item, Task, TaskError

FILE = "csqa/dev.jsonl"
HUB = HubData("commonsense_qa", "validation")


def task(
    data: str | Path | None = None,
    exemplars: str | Path | Sequence[str] | None = None,
    shots: int | None = None,
    judges: Sequence[str] | None = None,
) -> Task:
    """The 1,221 questions of the validation split, behind seven exemplars, answered in at most 100 tokens.

    No "A:" ends the prompt, as in the paper: the model is to write it.

    Args:
        data: a file, or "hub"; the folder of data or the hub if None.
        exemplars: a file in which each begins with "Q:", texts, or "built-in"; `csqa/exemplars.txt` in the folder of
            data, or our own seven where it has none, if None.
        shots: how many exemplars are wanted; all if None.
        judges: "paper", the parser of the paper, which is the headline, and "robust", which reads any usual form.

    Raises:
        TaskError: the questions or exemplars cannot be had, or one has no answer.
    """
    found = find("csqa", [FILE], [HUB], data)
    given = exemplar_texts.find("csqa", exemplars, start="Q:", end="\n")
    # A published file of the paper's exemplars lacks a space that its prompts have.
    texts = tuple(text.replace("\n(c)super market\n", "\n(c) super market\n") for text in given.texts)
    return Task(
        "csqa",
        tuple(_item(row) for row in found.rows),
        chosen("csqa", {"paper": lambda: letters.paper, "robust": lambda: letters.robust}, judges),
        texts,
        shots=len(texts) if shots is None else shots,
        max_new_tokens=100,
        chance=0.2,
        source=f"{found.source}; exemplars: {given.source}",
    )


def _item(row: Row) -> Item:
    # The hub's fields lie side by side; those of the published file within "question".
    nested = "question.stem" in row
    stem = row["question.stem" if nested else "question"]
    if nested:
        offered = {choice["label"]: choice["text"] for choice in row["question.choices"]}
    else:
        offered = dict(zip(row["choices.label"], row["choices.text"], strict=True))
    key, gold = str(row["id"]), row.get("answerKey")
    if not gold:
        raise TaskError(f"csqa: question {key!r} has no answer key ({row.place}): the test split's are not public")
    if gold not in offered:
        raise TaskError(f"csqa: question {key!r} has no choice {gold!r}, which is its answer key ({row.place})")
    listed = "".join(f"({label.lower()}) {text}\n" for label, text in offered.items())
    return Item(key, f"Q: {stem} Answer Choices: {listed}", gold.lower())
