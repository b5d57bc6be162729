"""Work that follows another thread's, a few steps behind it and never more."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, Self, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Following:
    """One thread that does what it is given in order.

    Args:
        behind: calls that may wait; giving more waits for the first.

    >>> with Following(1) as following:
    ...     sums = [following.do(sum, [1, number]) for number in range(3)]
    >>> [each.result() for each in sums]
    [1, 2, 3]
    """

    def __init__(self, behind: int) -> None:
        self._behind = behind
        self._pool = ThreadPoolExecutor(1)
        self._waiting: deque[Future[Any]] = deque()

    def do(self, what: Callable[P, T], *args: P.args, **settings: P.kwargs) -> Future[T]:
        """Give it a call; what an earlier one raised may be raised here."""
        given = self._pool.submit(what, *args, **settings)
        self._waiting.append(given)
        self._wait(self._behind)
        return given

    def wait(self) -> None:
        """Wait for all of it; raises what a call raised."""
        self._wait(0)

    def _wait(self, left: int) -> None:
        while len(self._waiting) > left or (self._waiting and self._waiting[0].done()):
            self._waiting.popleft().result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # After an error or Ctrl-C, only the call that it is at is ended.
        self._pool.shutdown(cancel_futures=kind is not None)
