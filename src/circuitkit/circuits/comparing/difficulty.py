"""How hard each question is: by what its task says, or by how often the intact model is right on it, cross-fitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from circuitkit.circuits.errors import CircuitError

OWN_ACCURACY = "own accuracy"
"""How often the intact model is right on a question, as a measure of how hard it is."""
LEVELS = ("easy", "middle", "hard")
_EASY, _HARD = 2 / 3, 1 / 3


@dataclass(frozen=True, eq=False)
class Placed:
    """Questions at a level of difficulty, and which of the intact model's answers are compared with there.

    Attributes:
        level: its name.
        items: the questions' numbers; a question may stand at one level by one half of its answers, and at the same or
            another by the other half.
        answers: of each, the answers that did not tell the level.
    """

    level: str
    items: Int[np.ndarray, " row"]
    answers: Bool[np.ndarray, "row answer"]

    def before(self, intact: Bool[np.ndarray, "item answer"]) -> Float[np.ndarray, " row"]:
        """The share of those answers of which something holds."""
        return np.asarray((intact[self.items] * self.answers).sum(1) / self.answers.sum(1))

    def after(self, changed: Bool[np.ndarray, "item answer"]) -> Float[np.ndarray, " row"]:
        """The share of all answers of a changed model, which told no level."""
        return np.asarray(changed[self.items].mean(1))


def everything(n_items: int, n_answers: int) -> Placed:
    """All questions together."""
    return Placed("all", np.arange(n_items), np.ones((n_items, n_answers), dtype=bool))


def by_group(values: Sequence[str | int], n_answers: int) -> list[Placed]:
    """Questions by what their task tells them apart by, in sorted order: that of hops is easiest first.

    >>> [(each.level, each.items.tolist()) for each in by_group([2, 1, 2], n_answers=1)]
    [('1', [1]), ('2', [0, 2])]
    """
    known = sorted(set(values), key=lambda value: (isinstance(value, str), value))
    places = [np.array([at for at, value in enumerate(values) if value == level]) for level in known]
    return [
        Placed(str(level), at, np.ones((len(at), n_answers), dtype=bool))
        for level, at in zip(known, places, strict=True)
    ]


def by_own_accuracy(right: Bool[np.ndarray, "item answer"]) -> list[Placed]:
    """Questions by how often the intact model is right on them: above two thirds easy, below one third hard.

    Cross-fitted: of each question's answers one half tells the level and the other half what the model is right on
    there, and then the other way round. Were it the same answers, a question that was failed by bad luck would count as
    hard, and any change would seem to gain on it.

    Raises:
        CircuitError: there are fewer than two answers of each question.

    >>> [each.level for each in by_own_accuracy(np.array([[True, True], [False, False]]))]
    ['easy', 'hard']
    """
    n, answers = right.shape
    if answers < 2:
        raise CircuitError(
            "how hard a question is by the model's own accuracy takes two answers of it or more, one half to tell the "
            "level and another to compare with: give samples=2 or more and a decoding with a temperature, or a group "
            "of the task, such as difficulty='hops'"
        )
    first = np.arange(answers) % 2 == 0
    told = np.concatenate([right[:, first].mean(1), right[:, ~first].mean(1)])
    compared = np.concatenate([np.tile(~first, (n, 1)), np.tile(first, (n, 1))])
    items = np.tile(np.arange(n), 2)
    inside = {"easy": told > _EASY, "middle": (told >= _HARD) & (told <= _EASY), "hard": told < _HARD}
    return [Placed(level, items[inside[level]], compared[inside[level]]) for level in LEVELS if inside[level].any()]


def usual_difficulty(groups: Mapping[str, Sequence[str | int]], n_answers: int) -> str | None:
    """What questions are told apart by where nobody says: hops, or the model's own accuracy, if there is either.

    >>> usual_difficulty({"rule": ["a", "b"], "hops": [1, 2]}, n_answers=1)
    'hops'
    """
    if len(set(groups.get("hops", ()))) > 1:
        return "hops"
    return OWN_ACCURACY if n_answers > 1 else None
