"""A bar that counts bytes."""

from __future__ import annotations

from tqdm import tqdm


def bytes_bar(total: int, what: str, progress: bool) -> tqdm[None]:
    """A bar for work on so many bytes, shown if it is wanted and the work takes more than a second.

    Args:
        total: bytes.
        what: is being done, in a few words.
        progress: whether it is wanted.

    >>> with bytes_bar(8, "reading", progress=False) as bar:
    ...     bar.update(8)
    """
    return tqdm(total=total, desc=what, unit="B", unit_scale=True, unit_divisor=1000, disable=not progress, delay=1.0)
