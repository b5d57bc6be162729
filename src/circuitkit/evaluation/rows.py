"""Responses written side by side: rows of one cache, which end when they will and make room for other prompts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache

from circuitkit.evaluation.choosing import Chooser
from circuitkit.evaluation.errors import EvaluationError
from circuitkit.evaluation.reading import Prefix, left_padded, next_logits
from circuitkit.evaluation.rows_cache import RowsCache
from circuitkit.evaluation.writing import Ending, Writing
from circuitkit.run.run import nan_advice, nan_row

if TYPE_CHECKING:
    from circuitkit.model import Model


class Rows:
    """Responses that are written side by side.

    Every row's tokens end at the last column. A row whose response has ended is computed along until another prompt
    takes its place, or until so many have ended that the others are moved together.

    Args:
        model: who writes.
        chooser: chooses tokens.
        ending: says what ends a response.
        prefix: what all prompts begin with, where that has been read.
    """

    def __init__(self, model: Model, chooser: Chooser, ending: Ending, prefix: Prefix | None = None) -> None:
        self.model, self.chooser, self.ending, self.prefix = model, chooser, ending, prefix
        self.writings: list[Writing] = []
        self._cache: RowsCache | None = None
        nothing = torch.zeros(0, 0, dtype=torch.long, device=model.device)
        # All of a row's tokens, the last of which the cache does not hold yet; which of them are real, or the prompt's.
        self._ids, self._mask, self._prompt = nothing, nothing.bool(), nothing.bool()

    @property
    def live(self) -> int:
        """Rows whose response has not ended."""
        return sum(writing.ended is None for writing in self.writings)

    def join(self, writings: Sequence[Writing]) -> None:
        """Read prompts, each once however many responses it is to have, and write the first token of each response.

        Raises:
            EvaluationError: a prompt's logits hold NaN.
        """
        began = time.perf_counter()
        prompts = list(dict.fromkeys(writing.asked.ids for writing in writings))
        number = {ids: at for at, ids in enumerate(prompts)}
        if self.prefix is None:
            ids, mask = left_padded(prompts, self.model.device)
            cache = DynamicCache()
            logits = next_logits(self.model, ids, mask, mask, cache)
        else:
            ids, mask, cache, logits = self.prefix.read_on(self.model, prompts)
        rows = torch.tensor([number[writing.asked.ids] for writing in writings], device=ids.device)
        ids, mask, prompt = ids[rows], mask[rows], mask[rows]
        chosen = self._choose(logits[rows.to(logits.device)], ids, mask, writings)
        self._seat(writings, cache, rows, (_append(ids, chosen), _append(mask, True), _append(prompt, False)))
        _share(time.perf_counter() - began, writings)

    def step(self) -> None:
        """Write one more token of every response.

        Raises:
            EvaluationError: a row's logits hold NaN.
        """
        began = time.perf_counter()
        self._move_together()
        live = [writing for writing in self.writings if writing.ended is None]
        logits = next_logits(self.model, self._ids[:, -1:], self._mask, self._prompt, self._cache)
        chosen = self._choose(logits, self._ids, self._mask, self.writings)
        self._ids, self._mask, self._prompt = (
            _append(self._ids, chosen),
            _append(self._mask, True),
            _append(self._prompt, False),
        )
        _share(time.perf_counter() - began, live)

    def _choose(self, logits: Tensor, ids: Tensor, mask: Tensor, writings: Sequence[Writing]) -> Tensor:
        check_finite(self.model, logits, writings, drawn=not self.chooser.decoding.greedy)
        randoms = [writing.random for writing in writings]
        chosen = self.chooser.choose(logits, ids.to(logits.device), mask.to(logits.device), randoms)
        for writing, token in zip(writings, chosen.tolist(), strict=True):
            if writing.ended is None:
                self.ending.take(writing, token)
        return chosen.to(ids.device)

    # Rows that come and go

    def _seat(
        self,
        writings: Sequence[Writing],
        cache: DynamicCache,
        rows: Tensor,
        tokens: tuple[Tensor, Tensor, Tensor],
    ) -> None:
        """Put responses in the places of those that have ended; the first of all bring the places."""
        staying = [at for at, writing in enumerate(writings) if writing.ended is None]
        if not staying:
            return
        chosen = torch.tensor(staying, device=rows.device)
        rows, (ids, mask, prompt) = rows[chosen], (each[chosen] for each in tokens)
        seated = [writings[at] for at in staying]
        if self._cache is None or not self.live:
            self._cache, self.writings = RowsCache(cache, rows), seated
            self._ids, self._mask, self._prompt = ids, mask, prompt
            return
        free = [at for at, writing in enumerate(self.writings) if writing.ended is not None]
        new = len(seated) - len(free)
        if new > 0:
            # Places that a row is copied to only to be written over.
            every = [*range(len(self.writings)), *[0] * new]
            self._select(every)
            free += range(len(every) - new, len(every))
        places = torch.tensor(free[: len(seated)], device=rows.device)
        for at, writing in zip(free, seated, strict=False):
            self.writings[at] = writing
        self._cache.put(places, cache, rows)
        self._ids, self._mask, self._prompt = (
            _put(held, places, each)
            for held, each in zip((self._ids, self._mask, self._prompt), (ids, mask, prompt), strict=True)
        )
        self._trim()

    def _move_together(self) -> None:
        """Drop rows that have ended where a quarter of all have, and columns that no row needs any more."""
        live = [at for at, writing in enumerate(self.writings) if writing.ended is None]
        if 4 * (len(self.writings) - len(live)) >= len(self.writings):
            self._select(live)
            self._trim()

    def _select(self, rows: list[int]) -> None:
        assert self._cache is not None
        here = torch.tensor(rows, device=self._ids.device)
        self._cache.select(here)
        self.writings = [self.writings[at] for at in rows]
        self._ids, self._mask, self._prompt = self._ids[here], self._mask[here], self._prompt[here]

    def _trim(self) -> None:
        empty = int(self._mask.long().argmax(-1).min())
        if empty:
            assert self._cache is not None
            self._cache.trim(empty)
            self._ids, self._mask, self._prompt = (each[:, empty:] for each in (self._ids, self._mask, self._prompt))


def _append(tensor: Tensor, column: Tensor | bool) -> Tensor:
    if isinstance(column, Tensor):
        return torch.cat([tensor, column[:, None]], dim=1)
    return F.pad(tensor, (0, 1), value=column)


def _put(held: Tensor, places: Tensor, rows: Tensor) -> Tensor:
    """Rows in the places of others, both ending at the last column."""
    width = max(held.shape[1], rows.shape[1])
    held = F.pad(held, (width - held.shape[1], 0))
    held[places] = F.pad(rows, (width - rows.shape[1], 0))
    return held


def _share(seconds: float, writings: Sequence[Writing]) -> None:
    for writing in writings:
        writing.seconds += seconds / len(writings)


def check_finite(model: Model, logits: Tensor, writings: Sequence[Writing], drawn: bool) -> None:
    """Refuse logits of a response that hold NaN, or infinity where tokens are drawn: they have no probabilities then.

    Raises:
        EvaluationError: some do; the item is named.
    """
    if nan_row(logits) is not None:
        what, holding = "NaN", torch.isnan(logits).any(-1)
    elif drawn and bool(torch.isposinf(logits.max())):
        what, holding = "infinity", torch.isposinf(logits).any(-1)
    else:
        return
    for writing, held in zip(writings, holding.tolist(), strict=True):
        if held and writing.ended is None:
            raise EvaluationError(
                f"the logits of item {writing.asked.item.key!r} hold {what} after {len(writing.ids)} tokens of its "
                f"response: {nan_advice(model)}"
            )
