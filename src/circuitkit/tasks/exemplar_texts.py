"""Exemplars as texts: read from a file, or of our own writing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from circuitkit.tasks.sources import data_folder
from circuitkit.tasks.task import TaskError

BUILT_IN = "built-in"


@dataclass(frozen=True)
class Exemplars:
    """Solved questions that stand before the one that is asked, and where they were found."""

    texts: tuple[str, ...]
    source: str


def find(task: str, wanted: str | Path | Sequence[str] | None, *, start: str, end: str) -> Exemplars:
    """The exemplars of a task: those given, else the folder of data's, else our own.

    Args:
        task: its name; the folder of data may have `TASK/exemplars.txt`.
        wanted: a file, the texts themselves, or "built-in".
        start: what the first line of each begins with.
        end: what stands between one and the next, and behind the last.

    Raises:
        TaskError: the file cannot be read, or holds none.
    """
    if wanted is not None and not isinstance(wanted, str | Path):
        return Exemplars(tuple(wanted), "given as texts")
    if wanted is None:
        folder = data_folder()
        file = None if folder is None else folder / task / "exemplars.txt"
        wanted = file if file is not None and file.is_file() else BUILT_IN
    if str(wanted) == BUILT_IN:
        own = resources.files("circuitkit.tasks") / "own_exemplars" / f"{task}.txt"
        return Exemplars(divided(own.read_text(encoding="utf-8"), start, end), "circuitkit's own")
    return Exemplars(from_file(Path(wanted), start, end), str(wanted))


def from_file(path: Path, start: str, end: str) -> tuple[str, ...]:
    """The exemplars of a text file, each of which may span lines.

    Raises:
        TaskError: it cannot be read, holds none, or holds text before the first.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"exemplars {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    try:
        return divided(text, start, end)
    except TaskError as error:
        raise TaskError(f"exemplars {path}: {error}") from error


def divided(text: str, start: str, end: str) -> tuple[str, ...]:
    r"""A text cut before each line that begins with `start`; every piece ends with `end` and no other line break.

    >>> divided("Q: 1 + 1\nA: 2\nQ: 1 + 2\nA: 3", "Q:", "\n\n")
    ('Q: 1 + 1\nA: 2\n\n', 'Q: 1 + 2\nA: 3\n\n')
    """
    before, *pieces = re.split(rf"^(?={re.escape(start)})", text.replace("\r\n", "\n"), flags=re.MULTILINE)
    if before.strip():
        raise TaskError(f"{before.strip().splitlines()[0]!r} stands before the first line that begins with {start!r}")
    if not pieces:
        raise TaskError(f"no line begins with {start!r}, as an exemplar does")
    return tuple(piece.rstrip("\n") + end for piece in pieces)
