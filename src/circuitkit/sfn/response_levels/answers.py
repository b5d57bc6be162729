"""Responses as they are read: each with its prompt, its own question, and what a judge found in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from circuitkit.evaluation import Evaluation
from circuitkit.sfn.response_levels.errors import LevelError

Judge = str | Callable[[str, str], bool]
"""The name of an evaluation's judge, or a function of prompt and response that says whether it is right."""


@dataclass(frozen=True)
class Answer:
    """A response as it is read.

    Attributes:
        key, sample, seed: which it is.
        prompt: all of the text that was answered.
        question: what of the prompt is its own, and is put in another's place to see what depends on it.
        text: the response.
        ended: whether it ended by itself.
        right: what the judge found; None where there is none.
        said: whether the judge could read an answer in it; None where there is no judge.
        groups: what it is told apart by.
    """

    key: str
    sample: int
    seed: int
    prompt: str
    question: str
    text: str
    ended: bool
    right: bool | None = None
    said: bool | None = None
    groups: Mapping[str, str | int] = field(default_factory=dict)

    def asked(self, question: str) -> str:
        """The prompt with another question in the place of its own."""
        before, own, after = self.prompt.rpartition(self.question)
        return before + question + after if own else question


def answers_of(answers: Evaluation | Sequence[tuple[str, str]], judge: Judge | None) -> list[Answer]:
    """The responses of an evaluation, or of pairs of prompt and response.

    Raises:
        LevelError: there is none, one has no question, one is no text, or the judge is of another kind.
    """
    found = _of_evaluation(answers, judge) if isinstance(answers, Evaluation) else _of_pairs(answers, judge)
    if not found:
        raise LevelError("there are no responses: give an evaluation, or pairs of prompt and response")
    if empty := [each for each in found if not each.question.strip()]:
        raise LevelError(f"response {empty[0].key!r} has no question: its prompt is empty, so nothing tells its task")
    return found


def _of_evaluation(evaluation: Evaluation, judge: Judge | None) -> list[Answer]:
    if judge is not None and not isinstance(judge, str):
        raise LevelError(f"an evaluation is judged already: name one of its judges ({', '.join(evaluation.judges)})")
    if judge is not None and judge not in evaluation.judges:
        raise LevelError(f"{evaluation.task} has no judge {judge!r}; it has {', '.join(evaluation.judges)}")
    name = judge or evaluation.judges[0]
    items = {item.key: item for item in evaluation.items}
    if strangers := [each.key for each in evaluation.responses if each.key not in items]:
        raise LevelError(f"response {strangers[0]!r} has no question: the evaluation has no item of that key")
    return [
        Answer(
            each.key,
            each.sample,
            each.seed,
            each.prompt,
            items[each.key].question.strip(),
            each.text,
            not each.truncated,
            each.judgements[name].correct,
            each.judgements[name].said is not None,
            items[each.key].groups,
        )
        for each in evaluation.responses
    ]


def _of_pairs(pairs: Sequence[tuple[str, str]], judge: Judge | None) -> list[Answer]:
    if isinstance(judge, str):
        raise LevelError(
            f"pairs of prompt and response have no judge {judge!r}: give a function of prompt and response"
        )
    found = []
    for number, pair in enumerate(pairs):
        if isinstance(pair, str) or len(pair) != 2 or not all(isinstance(each, str) for each in pair):
            raise LevelError(f"response {number} is {pair!r}: give pairs of two texts, (prompt, response)")
        prompt, text = pair
        right = None if judge is None else bool(judge(prompt, text))
        found.append(Answer(str(number), 0, 0, prompt, prompt.strip(), text, False, right, right))
    return found
