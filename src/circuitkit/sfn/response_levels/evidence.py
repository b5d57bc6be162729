"""What is measured in each response: repetition, fluency, how much it depends on its question, and shared words."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from circuitkit.sfn.response_levels.answers import Answer
from circuitkit.sfn.response_levels.errors import LevelError
from circuitkit.sfn.response_levels.likelihood import Reference, Row, Scores
from circuitkit.sfn.response_levels.repetition import said_before
from circuitkit.sfn.response_levels.wording import sentences_in, share_in, words

NAN = float("nan")
N_OTHERS = 8
"""Questions that a response is read behind beside its own."""


@dataclass(frozen=True)
class Evidence:
    """What is measured in a response.

    Attributes:
        n_tokens: its tokens, as the reference's tokenizer makes them.
        unknown: the share of them that stand for words which that tokenizer does not know.
        repeated: the share that says again what has been said.
        log_likelihood: mean of all tokens behind the response's own prompt, in nats a token.
        fluency: from 0 (a guess among all tokens) to 1 (certain), the mean over tokens that say something new, each
            behind the prompt that makes it likeliest, own or other; a first token, before which nothing is said, does
            not count. NaN where no token is left.
        dependence: how much likelier tokens that say something new are behind the own question than behind others, in
            nats a token, tokens less likely than a guess taken as a guess (pointwise mutual information).
        overlap: the share of telling words that stand in the own question; NaN where there are none.
        sentences: the share of its sentences that speak of what the question does: of whose telling words three of four
            or more stand in it; NaN where none has any.
        well_formed: the share of it, in words, that stands in sentences whose frames the prompts or the reference's own
            answers have; NaN where it has no telling word.
    """

    n_tokens: int
    unknown: float
    repeated: float
    log_likelihood: float
    fluency: float
    dependence: float
    overlap: float
    sentences: float
    well_formed: float = NAN


@dataclass(frozen=True)
class Reading:
    """A text, and the questions that it is read behind, its own first."""

    answer: Answer
    others: tuple[str, ...]


def readings(answers: Sequence[Answer], others: Sequence[str], seed: int) -> list[Reading]:
    """Each response with its own question and some others, drawn for it by itself.

    Raises:
        LevelError: there is no other question.
    """
    pool = list(dict.fromkeys([*(each.question for each in answers), *(text.strip() for text in others)]))
    if len(pool) < 2:
        raise LevelError(
            "all responses answer one question, so nothing shows what of them depends on it: give others=[…], "
            "questions of the same kind about something else"
        )
    found = []
    for each in answers:
        drawn = random.Random(f"{seed}/{each.key}/{each.sample}/{each.seed}")
        left = [question for question in pool if question != each.question]
        found.append(Reading(each, tuple(drawn.sample(left, min(N_OTHERS, len(left))))))
    return found


def measure(
    reference: Reference, read: Sequence[Reading], common: frozenset[str], done: Callable[[int], Any]
) -> list[Evidence]:
    """The evidence of each text; `done` is told of rows that have been scored."""
    rows: list[Row] = []
    for each in read:
        ids = reference.response(each.answer.text)
        rows += [
            Row(reference.prompt(each.answer.asked(question)), ids, each.answer.ended)
            for question in (each.answer.question, *each.others)
        ]
    scores = reference.score(rows, done)
    found, at = [], 0
    for each in read:
        n = 1 + len(each.others)
        found.append(_evidence(reference, each.answer, rows[at].response, scores[at : at + n], common))
        at += n
    return found


def _evidence(
    reference: Reference, answer: Answer, ids: Sequence[int], scores: Sequence[Scores], common: frozenset[str]
) -> Evidence:
    # Behind a longer question less may fit into the context.
    n_scored = min(map(len, scores))
    each = np.stack([score[:n_scored] for score in scores])
    again = said_before(ids)
    new = np.ones(n_scored, dtype=bool)
    new[: len(again)] = ~again[:n_scored]
    floored = np.maximum(each, reference.chance)
    following = new.copy()
    following[:1] = False
    told = (
        new
        if len(again) >= n_scored
        else np.concatenate([new[: len(again)], np.zeros(n_scored - len(again), dtype=bool)])
    )
    question = set(words(answer.question))
    overlap = share_in(answer.text, question, common)
    sentences = sentences_in(answer.text, question, common)
    return Evidence(
        len(ids),
        reference.unknown(ids),
        float(again.mean()) if len(ids) else 0.0,
        float(each[0, : len(ids)].mean()) if len(ids) and n_scored else NAN,
        1 - float(floored.max(0)[following].mean()) / reference.chance if following.any() else NAN,
        float((floored[0] - floored[1:].mean(0))[told].mean()) if told.any() else NAN,
        NAN if overlap is None else overlap,
        NAN if sentences is None else sentences,
    )
