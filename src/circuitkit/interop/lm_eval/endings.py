"""How a response ended: at an end token, at a stop text, or because there was no more room."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Ending:
    """How one generated response ended.

    Attributes:
        n_tokens: tokens that the model wrote, an end token included; where a stop text ended it, up to that text.
        by: "end" (an end token), "stop" (a stop text) or "length", which is a truncated response.
        prompt_tokens: tokens of the prompt that were read.
        cut: whether the prompt was longer, and lost its beginning.
    """

    n_tokens: int
    by: Literal["end", "stop", "length"]
    prompt_tokens: int
    cut: bool

    @property
    def truncated(self) -> bool:
        """Whether the response hit the token limit."""
        return self.by == "length"


def ending_of(
    ids: Sequence[int], tokenizer: Any, stops: Sequence[str], ends: frozenset[int], prompt_tokens: int, cut: bool
) -> Ending:
    """How a row of generated ids ended, in which whatever stands behind its end is padding or other rows' time.

    Args:
        ids: all that was generated in its row.
        tokenizer: decodes them.
        stops: the texts that end a response.
        ends: the tokens that do.
        prompt_tokens, cut: of its prompt, see `Ending`.

    >>> ending_of([5, 2, 0, 0], None, [], frozenset({2}), 7, False)
    Ending(n_tokens=2, by='end', prompt_tokens=7, cut=False)
    """
    own = next((at + 1 for at, token in enumerate(ids) if token in ends), None)
    written = ids if own is None else ids[:own]
    if stops and (stopped := _first_stopped(written, tokenizer, stops)) is not None:
        # The end token's own text is one of the harness's stops, and then both say the same.
        by: Literal["end", "stop"] = "end" if stopped == own else "stop"
        return Ending(stopped, by, prompt_tokens, cut)
    return Ending(len(written), "length" if own is None else "end", prompt_tokens, cut)


def _first_stopped(ids: Sequence[int], tokenizer: Any, stops: Sequence[str]) -> int | None:
    """The fewest tokens whose text holds a stop text, by halving, since a text once held stays."""
    if not _holds(tokenizer.decode(ids), stops):
        return None
    low, high = 0, len(ids)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _holds(tokenizer.decode(ids[:middle]), stops) else (middle, high)
    return high


def _holds(text: str, stops: Sequence[str]) -> bool:
    return any(stop and stop in text for stop in stops)


class Endings:
    """The endings of one call's responses, collected in the order of generation, given in the order of requests."""

    def __init__(self) -> None:
        self._found: dict[str, deque[Ending]] = defaultdict(deque)

    def add(self, context: str, ending: Ending) -> None:
        """Take the ending of a response to a context."""
        self._found[context].append(ending)

    def in_order(self, contexts: Sequence[str]) -> list[Ending]:
        """The endings of responses to some contexts; of equal contexts, in the order in which they came."""
        return [self._found[context].popleft() for context in contexts]
