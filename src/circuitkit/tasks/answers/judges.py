"""Which of a task's judges are asked, and what stands behind the answer in a response."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from circuitkit.tasks.task import Judge, TaskError

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
    r"""A response up to where the model goes on to a question of its own.

    >>> own_part("So it is 4.\n\nQ: What is 3 + 3?\nA: 6")
    'So it is 4.\n\n'
    """
    found = _NEXT_QUESTION.search(response)
    return response if found is None else response[: found.start()]
