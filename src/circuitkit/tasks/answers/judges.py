"""Which of a task's judges are asked, and which part of a response they read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from circuitkit.tasks.task import Judge, TaskError

_THOUGHT_ENDS = "</think>"
_NEXT_QUESTION = re.compile(r"(?<=\n)[ \t]*(?:Q|Question|Problem)[ \t]*:")


def chosen(task: str, available: Mapping[str, Callable[[], Judge]], wanted: Sequence[str] | None) -> dict[str, Judge]:
    """Make the judges that are wanted, all that there are if None, in the order in which they are named.

    Raises:
        TaskError: there is no judge of such a name, or one needs a library that is not installed.
    """
    if isinstance(wanted, str):
        wanted = (wanted,)
    if missing := [name for name in wanted or () if name not in available]:
        raise TaskError(f"{task} has no judge {missing[0]!r}; it has {', '.join(available)}")
    return {name: available[name]() for name in (available if wanted is None else wanted)}


def own_part(response: str) -> str:
    r"""A response from behind the model's thought, if it marks one, up to where it goes on to a question of its own.

    >>> own_part("So it is 4.\n\nQ: What is 3 + 3?\nA: 6")
    'So it is 4.\n\n'
    >>> own_part("<think>Is it 5? No.</think>It is 4.")
    'It is 4.'
    """
    said = response.rpartition(_THOUGHT_ENDS)[2]
    found = _NEXT_QUESTION.search(said)
    return said if found is None else said[: found.start()]
