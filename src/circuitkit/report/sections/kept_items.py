"""Which items and responses a page keeps: some that models disagree on, some right and some wrong, of every group."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TypedDict

from circuitkit.evaluation.outcome import Evaluation
from circuitkit.evaluation.responses import Response
from circuitkit.report.embedding import as_json
from circuitkit.tasks.prontoqa.judges import PROOF_JUDGES
from circuitkit.tasks.prontoqa.verdict import judge
from circuitkit.tasks.task import Item

MOST_LETTERS = 4_000
"""Of a question, an answer or a response: the beginning and the end are kept."""

MOST_RESPONSES = 4
"""Of one model to one item."""

MOST_STEPS = 60

Step = tuple[str, str, str, int, bool]
"""A sentence of a proof, its verdict, how it follows, on how many open assumptions it rests, whether it concludes."""


class ResponseData(TypedDict):
    """A response: its text, the answer that was read out of it, and whether each judge finds it right.

    `left_out` is how many steps of its proof come after those that are here.
    """

    text: str
    said: str | None
    right: Sequence[bool | None]
    truncated: bool
    n_tokens: int
    which: str
    steps: Sequence[Step] | None
    left_out: int


class ItemData(TypedDict):
    """An item with its responses, a list for each evaluation; `at` is its place among all items."""

    at: int
    key: str
    question: str
    gold: str
    responses: list[list[ResponseData]]


def kept(
    found: Sequence[Evaluation],
    items: Sequence[Item],
    signs: Sequence[tuple[str, ...]],
    groups: Sequence[str],
    judges: Sequence[str],
    most: int,
) -> tuple[list[ItemData], list[str]]:
    """Items with their responses that take so many bytes at most, taken in turn from each kind, and what is left out.

    A kind is of those with the same groups of which all models are right, or none, or some.
    """
    answered: list[dict[str, list[Response]]] = []
    for each in found:
        own: dict[str, list[Response]] = defaultdict(list)
        for response in each.responses:
            own[response.key].append(response)
        answered.append(own)
    chosen: list[ItemData] = []
    left, thinned = most, False
    for at in _in_turn(items, signs, groups):
        item = items[at]
        made: ItemData = {
            "at": at,
            "key": item.key,
            "question": cut(item.question),
            "gold": cut(item.gold),
            "responses": [
                [_response(item, each, judges) for each in own.get(item.key, ())[:MOST_RESPONSES]] for own in answered
            ],
        }
        thinned = thinned or any(len(own.get(item.key, ())) > MOST_RESPONSES for own in answered)
        left -= len(as_json(made).encode())
        if left < 0 and chosen:
            break
        chosen.append(made)
    notes = []
    if len(chosen) < len(items):
        notes.append(
            f"The texts of {len(chosen):,} of {len(items):,} items are in the page, of each group some that all models "
            "get right, that none does, and that they disagree on; shares are of all."
        )
    if thinned:
        notes.append(f"Of each item the first {MOST_RESPONSES} responses of a model are in the page.")
    return sorted(chosen, key=lambda each: each["at"]), notes


def _in_turn(items: Sequence[Item], signs: Sequence[tuple[str, ...]], groups: Sequence[str]) -> Iterator[int]:
    """Items, one of each kind after the other: first those that models disagree on."""
    kinds: dict[tuple[int, tuple[str, ...]], list[int]] = defaultdict(list)
    for at, item in enumerate(items):
        asked = {sign for sign in signs[at] if sign != "-"}
        order = 0 if len(asked) > 1 or "~" in asked else 1 if asked == {"0"} else 2
        kinds[order, tuple(str(item.groups.get(name)) for name in groups)].append(at)
    left = [iter(kinds[kind]) for kind in sorted(kinds, key=lambda kind: kind[0])]
    while left:
        still = []
        for each in left:
            for at in each:
                yield at
                still.append(each)
                break
        left = still


def _response(item: Item, response: Response, judges: Sequence[str]) -> ResponseData:
    found: Mapping[str, object] = response.judgements
    steps = _steps(item, response)
    return {
        "text": cut(response.text),
        "said": None if (said := next(iter(response.judgements.values())).said) is None else cut(said),
        "right": [response.judgements[name].correct if name in found else None for name in judges],
        "truncated": response.truncated,
        "n_tokens": response.n_tokens,
        "which": f"seed {response.seed}, sample {response.sample}",
        "steps": None if steps is None else steps[:MOST_STEPS],
        "left_out": 0 if steps is None else max(0, len(steps) - MOST_STEPS),
    }


def _steps(item: Item, response: Response) -> tuple[Step, ...] | None:
    """What the judge of proofs finds of each sentence; None of a task of another kind."""
    if not PROOF_JUDGES.keys() <= response.judgements.keys():
        return None
    try:
        verdict = judge(item.question, response.judged)
    except ValueError:
        # Judges of these names that are another task's.
        return None
    return tuple(
        (cut(step.text), step.verdict, step.kind, step.open_hypotheses, step.concludes) for step in verdict.steps
    )


def cut(text: str, most: int = MOST_LETTERS) -> str:
    """A text of so many letters at most, its middle left out.

    >>> cut("abcdefghij", 6)
    'abc … hij'
    """
    return text if len(text) <= most else f"{text[: most // 2]} … {text[-(most // 2) :]}"
