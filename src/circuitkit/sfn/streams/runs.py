"""Stretches along an axis: of rows, or of columns, that a part of a tensor takes."""

from __future__ import annotations

from collections.abc import Iterable

Runs = tuple[slice, ...]
"""Stretches in order; each has a start, a stop above it, and a step where it takes every so manyth."""


def length(run: slice) -> int:
    """Members of one stretch."""
    return len(range(run.start, run.stop, run.step or 1))


def count(runs: Runs) -> int:
    """Members of all of them."""
    return sum(length(run) for run in runs)


def cut(run: slice, at: slice) -> tuple[int, slice] | None:
    """What of a stretch lies in another, and how many of its members come before that."""
    step = run.step or 1
    skipped = max(0, -(-(at.start - run.start) // step))
    start, stop = run.start + skipped * step, min(run.stop, at.stop)
    return (skipped, slice(start, stop, step)) if start < stop else None


def share(runs: Runs, index: int, of: int) -> Runs:
    """One of several equal shares of stretches taken one after another."""
    size = count(runs) // of
    return between(runs, index * size, (index + 1) * size)


def between(runs: Runs, first: int, behind: int) -> Runs:
    """The members of stretches, counted along them, from one to another.

    >>> between((slice(0, 4), slice(8, 12)), 3, 6)
    (slice(3, 4, 1), slice(8, 10, 1))
    """
    found, before = [], 0
    for run in runs:
        step, members = run.step or 1, length(run)
        start, stop = max(first - before, 0), min(behind - before, members)
        if start < stop:
            found.append(slice(run.start + start * step, run.start + (stop - 1) * step + 1, step))
        before += members
    return tuple(found)


def shifted(runs: Runs, by: int) -> Runs:
    """Stretches so much further along.

    >>> shifted((slice(0, 4),), 2)
    (slice(2, 6, None),)
    """
    return tuple(slice(run.start + by, run.stop + by, run.step) for run in runs)


def joined(runs: Iterable[slice]) -> Runs:
    """Stretches in order, those that touch made one.

    >>> joined([slice(0, 2), slice(2, 4), slice(6, 8)])
    (slice(0, 4, 1), slice(6, 8, 1))
    """
    found: list[slice] = []
    for run in runs:
        step = run.step or 1
        if found and step == 1 == found[-1].step and found[-1].stop == run.start:
            found[-1] = slice(found[-1].start, run.stop, 1)
        else:
            found.append(slice(run.start, run.stop, step))
    return tuple(found)
