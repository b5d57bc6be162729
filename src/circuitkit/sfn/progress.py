"""A bar that counts bytes."""

from __future__ import annotations

from typing import Any

from tqdm import tqdm


def bytes_bar(total: int, what: str, progress: bool) -> tqdm[Any]:
    """A bar for work on so many bytes, shown if it is wanted and the work takes more than two seconds.

    Args:
        total: bytes.
        what: is being done, in a few words.
        progress: whether it is wanted.

    >>> with bytes_bar(8, "reading", progress=False) as bar:
    ...     bar.update(8)
    """
    bar: tqdm[Any] = tqdm(total=total, desc=what, unit="B", unit_scale=True, disable=not progress, delay=2.0)
    return bar
