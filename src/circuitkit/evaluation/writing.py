"""A response while it is written, and what ends it: an end token, a stop text, or no more room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, Literal

from circuitkit.evaluation.asking import THOUGHT_ENDS, Asked

if TYPE_CHECKING:
    from circuitkit.model import Model

Ended = Literal["end", "stop", "length"]
_BEFORE = 8


@dataclass(eq=False)
class Writing:
    """A response while it is written.

    Attributes:
        asked: what it answers.
        sample, seed: which of the item's responses it is.
        room: most tokens that it may have.
        ids: its tokens so far.
        ended: by what it has ended, if it has.
        seconds: its share of the time of the batches that it was in.
        random: its own source of numbers, so that it depends neither on its batch nor on what was drawn before.
    """

    asked: Asked
    sample: int
    seed: int
    room: int
    ids: list[int] = field(default_factory=list)
    ended: Ended | None = None
    seconds: float = 0.0
    random: Random = field(default_factory=Random)

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Begin, or begin anew."""
        self.ids, self.ended = [], None
        self.random = Random(f"{self.seed}/{self.sample}/{self.asked.item.key}")


def end_tokens(model: Model, given: int | Sequence[int] | None = None) -> frozenset[int]:
    """The tokens that end a response: those of the model's generation config, if none are given."""
    ends: Any = getattr(getattr(model.hf, "generation_config", None), "eos_token_id", None) if given is None else given
    return frozenset(() if ends is None else [ends] if isinstance(ends, int) else map(int, ends))


class Ending:
    """What ends a response, and its text once it has ended.

    Args:
        tokenizer: the model's.
        ends: the tokens that end a response.
        stops: the texts that do.
        thinks: whether what stands before `</think>` is the model's thought, and not its answer.
        must_think: whether a response whose thought has not ended has no answer.
    """

    def __init__(
        self,
        tokenizer: Any,
        ends: frozenset[int],
        stops: Sequence[str],
        thinks: bool = False,
        must_think: bool = False,
    ) -> None:
        self.tokenizer, self.ends, self.stops = tokenizer, ends, tuple(stops)
        self.thinks, self.must_think = thinks, must_think
        self._last_letters = frozenset(stop[-1] for stop in self.stops)
        # A space may come from between two tokens, or be dropped where a token is decoded by itself.
        self._any_completes = any(letter.isspace() for letter in self._last_letters)
        self._may_complete: dict[int, bool] = {}

    def take(self, writing: Writing, token: int) -> None:
        """Give a response its next token, and say whether that has ended it."""
        writing.ids.append(token)
        if token in self.ends:
            writing.ended = "end"
        elif self.stops and self._completes(token) and self._first_stop(self._decoded(writing)) is not None:
            writing.ended = "stop"
        elif len(writing.ids) >= writing.room:
            writing.ended = "length"

    def text(self, writing: Writing) -> str:
        """The text of a response, up to the first stop text."""
        text = self._decoded(writing)
        at = self._first_stop(text)
        return text if at is None else text[:at]

    def answer(self, text: str) -> str:
        """What of a response's text is judged: what follows its thought.

        >>> Ending(None, frozenset(), (), thinks=True).answer("<think>1 + 1</think>2")
        '2'
        """
        if not self.thinks:
            return text
        _, ended, behind = text.partition(THOUGHT_ENDS)
        return behind if ended else "" if self.must_think else text

    def _completes(self, token: int) -> bool:
        """Whether a stop text may end within a token: looked up once a token, so that few steps decode anything."""
        if token not in self._may_complete:
            text = self.tokenizer.decode([token])
            # A part of a character shows as a mark of its own, and may be the last of one.
            may = self._any_completes or "\ufffd" in text or not self._last_letters.isdisjoint(text)
            self._may_complete[token] = may
        return self._may_complete[token]

    def _first_stop(self, text: str) -> int | None:
        found = [at for stop in self.stops if (at := text.find(stop)) >= 0]
        return min(found, default=None)

    def _decoded(self, writing: Writing) -> str:
        """The text behind the prompt, decoded behind its last tokens, since some tokenizers drop a first space."""
        before = list(writing.asked.ids[-_BEFORE:])
        prompt, whole = (self._decode(ids) for ids in (before, before + writing.ids))
        return whole[len(prompt) :] if whole.startswith(prompt) else self._decode(writing.ids)

    def _decode(self, ids: Sequence[int]) -> str:
        keep = self.thinks and THOUGHT_ENDS in getattr(self.tokenizer, "all_special_tokens", ())
        text: str = self.tokenizer.decode(ids, skip_special_tokens=not keep)
        if keep:
            for token in self.tokenizer.all_special_tokens:
                text = text if token == THOUGHT_ENDS else text.replace(token, "")
        return text
