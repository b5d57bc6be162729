"""What a planted circuit's heads tell each other, and which of it differs between a clean and a corrupt prompt.

A content is a subspace of the stream at one place of the prompt. A head hands on: it reads contents by its query, key
and value, and writes one. An edge carries the task where what it carries differs between the two prompts and ends, by
way of others, in what the unembedding reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from circuitkit.model.planted.heads import Lookup
from circuitkit.model.planted.words import Corruption, Task

Part = Literal["q", "k", "v"]
# In "a b ; b c ; … a" these are a, the first b, the second b, c and the last a; induction's "A B … A" has no middle.
Place = Literal["subject", "middle object", "middle subject", "object", "query"]


class Content(NamedTuple):
    """A subspace of the stream (see `stream`) at one place of the prompt."""

    subspace: str
    place: Place


class Carrier(NamedTuple):
    """An edge by its ends' roles; the part is None where it ends in the logits."""

    writer: str
    reader: str
    part: Part | None


@dataclass(frozen=True)
class Handing:
    """What a head of a role makes of what it reads."""

    role: str
    reads: Mapping[Part, Content]
    writes: Content


PREDICTION = Content("output", "query")
_LOOKED_UP: dict[Task, dict[str, Place]] = {
    "induction": {"induction": "object", "decoy": "object", "saturated": "object"},
    "two-hop": {
        "first_hop": "middle object",
        "second_hop": "object",
        "decoy": "object",
        "saturated": "object",
    },
}
_BEHIND: dict[Task, dict[Place, Place]] = {
    "induction": {"subject": "object"},
    "two-hop": {"subject": "middle object", "middle subject": "object"},
}


def handings(task: Task, plans: Mapping[str, Lookup]) -> list[Handing]:
    """What each head of a task hands on, in the order of layers, by its plan.

    Without the backup: while the primary announces itself it rests, whatever else it reads, and no corruption changes
    the announcement.
    """
    previous = [
        Handing("previous", {"v": Content("token", place)}, Content("previous", behind))
        for place, behind in _BEHIND[task].items()
    ]
    return previous + [_lookup(role, plans[role], place) for role, place in _LOOKED_UP[task].items()]


def _lookup(role: str, plan: Lookup, place: Place) -> Handing:
    reads: dict[Part, Content] = {
        "q": Content(plan.query, "query"),
        "k": Content("previous", place),
        "v": Content("token", place),
    }
    return Handing(role, reads, Content(plan.destination, "query"))


def carriers(steps: Sequence[Handing], corruption: Corruption) -> frozenset[Carrier]:
    """The edges whose content a corruption changes, and by which the change comes to the prediction.

    >>> steps = [Handing("copy", {"v": Content("token", "query")}, PREDICTION)]
    >>> sorted(carriers(steps, "query"))
    [Carrier(writer='copy', reader='logits', part=None), Carrier(writer='input', reader='copy', part='v')]
    """
    writers: dict[Content, list[str]] = {Content("token", corruption): ["input"]}
    for step in steps:
        if any(content in writers for content in step.reads.values()):
            writers.setdefault(step.writes, []).append(step.role)
    found = {Carrier(writer, "logits", None) for writer in writers.get(PREDICTION, ())}
    needed = {PREDICTION}
    for step in reversed(steps):
        if step.writes not in needed:
            continue
        for part, content in step.reads.items():
            if content in writers:
                needed.add(content)
                found |= {Carrier(writer, step.role, part) for writer in writers[content]}
    return frozenset(found)
